import { useCallback, useEffect, useState } from "react";
import { Link } from "react-router";
import { fetchRuns, fetchTraining, type Run, type RunPage as Page, type TrainedAlias } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { useAsked } from "../../models/useAsked";
import { useReviewStation, useStation } from "../../review/hooks";
import { hasEnded, shownLarge } from "../../training/run";
import { useRun } from "../../training/useRun";
import { NameForm } from "../review/NameForm";
import { AliasCard } from "./AliasCard";
import { RunList } from "./RunList";
import { RunView } from "./RunView";
import styles from "./TrainingPage.module.css";

const EVERY_MS = 5_000;
const PAGE = 20;

/** What learns from people's answers: what decides now, the run that goes on, and those before. */
export function TrainingPage() {
  const { t } = useI18n();
  useEffect(() => {
    document.title = `${t("training.title")} · ${t("app.name")}`;
  }, [t]);
  const ask = useCallback((signal: AbortSignal) => fetchTraining(signal), []);
  const { value, problem, again } = useAsked(ask, EVERY_MS);
  const [naming, onName] = useNaming();
  if (naming !== null) return naming;
  if (value === null) {
    if (problem) return <Message title={t("training.away.title")} text={t("training.server_away")} />;
    return <Message title={t("training.loading")} />;
  }
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("training.title")}</h1>
        <Link className={ButtonLook} to="/models">
          {t("training.models")}
        </Link>
      </header>
      {problem && <p className={styles["note"]} role="status">{t("training.server_away")}</p>}
      {!value.offered && <p className={styles["note"]}>{t("training.off")}</p>}
      {!value.known && <p className={styles["note"]}>{t("training.unread")}</p>}
      {value.known && value.aliases.length === 0 && <p className={styles["note"]}>{t("training.no_alias")}</p>}
      {value.offered ? (
        <Runs aliases={value.aliases} onName={onName} onChanged={again} />
      ) : (
        value.aliases.map((alias) => <AliasCard key={alias.alias} alias={alias} page={null} onName={onName} onChanged={again} />)
      )}
    </div>
  );
}

/** Where nobody signs in, whoever changes something says who they are first. */
export function useNaming(): [React.JSX.Element | null, () => void] {
  const station = useReviewStation();
  const { reviewer } = useStation();
  const [naming, setNaming] = useState(false);
  const form = naming ? (
    <NameForm name={reviewer ?? ""} onName={(name) => {
      station.setReviewer(name);
      setNaming(false);
    }} />
  ) : null;
  return [form, () => setNaming(true)];
}

/** Everything that only the trainer knows. */
function Runs({ aliases, onName, onChanged }: { aliases: TrainedAlias[]; onName: () => void; onChanged: () => void }) {
  const { t } = useI18n();
  const [limit, setLimit] = useState(PAGE);
  const ask = useCallback((signal: AbortSignal) => fetchAll(limit, signal), [limit]);
  const asked = useAsked(ask, EVERY_MS);
  const page = useKept(asked.value);
  const { problem } = asked;
  const changed = () => {
    asked.again();
    onChanged();
  };
  const large = shownLarge(page?.runs ?? []);
  const earlier = page?.runs.filter((run) => !large.includes(run)) ?? [];
  return (
    <>
      {problem && page !== null && <p className={styles["note"]} role="status" data-testid="away">{t("training.away")}</p>}
      {problem && page === null && <p className={styles["note"]} role="status" data-testid="away">{t("training.away.text")}</p>}
      {aliases.map((alias) => (
        <AliasCard key={alias.alias} alias={alias} page={page} onName={onName} onChanged={changed} />
      ))}
      {page !== null && page.runs.length === 0 && aliases.length > 0 && <p className={styles["quiet"]}>{t("training.none")}</p>}
      {large.map((run) => (
        <LargeRun key={run.run_id} listed={run} alias={aliases.find((one) => one.alias === run.alias) ?? null}
          onName={onName} onChanged={changed} />
      ))}
      {page !== null && page.runs.length > 0 && (
        <RunList runs={earlier} onMore={page.next === null ? null : () => setLimit(limit + PAGE)} />
      )}
    </>
  );
}

function LargeRun(props: { listed: Run; alias: TrainedAlias | null; onName: () => void; onChanged: () => void }) {
  const { t } = useI18n();
  const { listed, alias, onName, onChanged } = props;
  const [turn, setTurn] = useState(0);
  const { run } = useRun(listed.run_id, turn);
  const shown = run ?? listed;
  return (
    <section className={styles["large"]} aria-label={t(hasEnded(shown) ? "training.last" : "training.large")}>
      <h2>
        {t(hasEnded(shown) ? "training.last" : "training.large")}
        <Link to={`/training/${listed.run_id}`}>
          {t("training.open")}
          <Icon name="right" size={16} />
        </Link>
      </h2>
      <RunView run={shown} alias={alias} onName={onName} onChanged={() => {
        setTurn(turn + 1);
        onChanged();
      }} />
    </section>
  );
}

/** What was there stays while more is asked for. */
function useKept<T>(value: T | null): T | null {
  const [kept, setKept] = useState<T | null>(null);
  if (value !== null && value !== kept) setKept(value);
  return kept;
}

/** Pages until there are enough, so that what is asked again is all that is on screen. */
async function fetchAll(limit: number, signal: AbortSignal): Promise<Page> {
  const runs: Run[] = [];
  let after: string | null = null;
  for (;;) {
    const page: Page = await fetchRuns({ after, limit: PAGE }, signal);
    runs.push(...page.runs);
    after = page.next;
    if (after === null || runs.length >= limit) return { ...page, runs };
  }
}
