import { useState } from "react";
import type { Change, ChangeDetail } from "../../api/models";
import { ButtonLook } from "../../components/Button";
import { useI18n, type Translate } from "../../i18n";
import { PICKS, picked, pickOf, rightBefore, rightOf, type Pick } from "../../models/changes";
import { switchLabel } from "./ChangeList";
import styles from "./ChangeView.module.css";
import { FlipsPanel } from "./FlipsPanel";
import { PartCard } from "./PartCard";

const SHOWN = 60;

interface ChangeViewProps {
  detail: ChangeDetail;
  mine: boolean;
  onName: () => void;
  onUndone: () => void;
}

/** One new model: how the corrected parts come out, each of them, and what else changed on the line. */
export function ChangeView({ detail: { change, parts }, mine, onName, onUndone }: ChangeViewProps) {
  const { t, format } = useI18n();
  const [pick, setPick] = useState<Pick>("all");
  const [most, setMost] = useState(SHOWN);
  const picks = PICKS.map((one) => [one, parts.filter((part) => pickOf(part) === one).length] as const).filter(([, count]) => count > 0);
  const chosen = pick !== "all" && picks.some(([one]) => one === pick) ? pick : "all";
  const fitting = picked(parts, chosen);
  const { compared } = rightOf(change.counts);
  const before = rightBefore(parts);
  return (
    <article className={styles["change"]} data-testid="change">
      <header className={styles["head"]}>
        <p>
          {switchLabel(change, t)} · {t(change.actor ? "changes.by" : "changes.at", { time: format.since(change.at_ms), actor: change.actor })}
        </p>
        <h2>{headline(change, mine, t)}</h2>
        {compared > 0 && <p>{t(before > 0 ? "changes.before_were" : "changes.before_were.none", { count: before })}</p>}
        {change.note && <q>{change.note}</q>}
        <Progress change={change} />
      </header>
      {picks.length > 1 && (
        <div className={styles["picks"]} role="group" aria-label={t("changes.title")}>
          <button type="button" aria-pressed={chosen === "all"} onClick={() => setPick("all")}>
            {t("changes.outcome.all")} <b>{parts.length}</b>
          </button>
          {picks.map(([one, count]) => (
            <button key={one} type="button" data-outcome={one} aria-pressed={chosen === one} onClick={() => setPick(one)}>
              {t(`changes.outcome.${one}`)} <b>{count}</b>
            </button>
          ))}
        </div>
      )}
      {fitting.length > 0 && (
        <ol className={styles["parts"]}>
          {fitting.slice(0, most).map((part) => (
            <PartCard key={part.case_id} part={part} onName={onName} onUndone={onUndone} />
          ))}
        </ol>
      )}
      {fitting.length > most && (
        <button type="button" className={ButtonLook} onClick={() => setMost(most + SHOWN)}>
          {t("changes.parts.more", { count: Math.min(SHOWN, fitting.length - most) })}
        </button>
      )}
      <FlipsPanel change={change} />
    </article>
  );
}

function headline({ counts, state }: Change, mine: boolean, t: Translate): string {
  const { right, compared } = rightOf(counts);
  const whose = mine ? "mine" : "everyone";
  if (compared === 0) {
    const nothing = counts.parts === 0 && state !== "comparing";
    return t(nothing ? `changes.headline.none.${whose}` : "changes.headline.waiting");
  }
  if (compared === 1) return t(right === 1 ? `changes.headline.${whose}.one` : `changes.headline.${whose}.one.not`);
  return t(`changes.headline.${whose}`, { right, parts: compared });
}

function Progress({ change }: { change: Change }) {
  const { t } = useI18n();
  if (change.state === "superseded") return <p>{t("changes.superseded", { version: change.live_version })}</p>;
  if (change.state === "done") return null;
  const { settled, planned, waits_for: waits } = change;
  const known = waits === "detector" || waits === "version" || waits === "record";
  return (
    <div className={styles["progress"]} data-testid="progress">
      <label>
        {t("changes.comparing", { settled, planned })}
        <progress value={settled} max={Math.max(1, planned)} />
      </label>
      {known && <p role="status">{t(`changes.waits.${waits}`, { version: change.live_version })}</p>}
    </div>
  );
}
