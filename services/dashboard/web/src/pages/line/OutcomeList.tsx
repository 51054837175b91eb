import { memo, useState } from "react";
import { Link } from "react-router";
import type { LineOutcomes, Outcome, PartAnswers } from "../../api/lines";
import type { Problem } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { PartThumb } from "../../components/PartThumb";
import { VerdictBadge } from "../../components/VerdictBadge";
import { useI18n } from "../../i18n";
import { firstOf, isCorrected, lastOf } from "../../lines/state";
import { reasonText, timeText } from "../../lines/words";
import styles from "./OutcomeList.module.css";

interface Props {
  outcomes: LineOutcomes | null;
  problem: Problem | null;
  /** Null where nothing is older. */
  onMore: (() => void) | null;
}

/** One row for each part: what its cameras saw, what the line was told, and whether that was in time. */
export function OutcomeList({ outcomes, problem, onMore }: Props) {
  const { t } = useI18n();
  const [held, setHeld] = useState<PartAnswers[] | null>(null);
  const parts = outcomes?.parts ?? [];
  const shown = held ?? parts;
  return (
    <Panel title={t("line.outcomes")}>
      {problem && <p className={styles["away"]} role="status">{t("line.outcomes.away")}</p>}
      {outcomes !== null && parts.length === 0 && <p className={styles["none"]}>{t("line.outcomes.none")}</p>}
      {shown.length > 0 && (
        // Held still while a person points at it or moves through it: a target must not run away.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- it only stops moving
        <table className={styles["table"]} data-testid="outcomes" onPointerEnter={() => setHeld(parts)} onPointerLeave={() => setHeld(null)}
          onFocus={() => setHeld(held ?? parts)} onBlur={(event) => !event.currentTarget.contains(event.relatedTarget) && setHeld(null)}>
          <thead>
            <tr>
              <th scope="col">{t("line.col.part")}</th>
              <th scope="col">{t("line.col.views")}</th>
              <th scope="col">{t("line.col.answer")}</th>
              <th scope="col">{t("line.col.time")}</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((part) => (
              <Row key={`${part.part_id} ${firstOf(part).outcome_id}`} part={part} />
            ))}
          </tbody>
        </table>
      )}
      {onMore && (
        <button type="button" className={ButtonLook} onClick={() => {
          setHeld(null);
          onMore();
        }}>
          {t("line.outcomes.more")}
        </button>
      )}
    </Panel>
  );
}

const Row = memo(function Row({ part }: { part: PartAnswers }) {
  const { format } = useI18n();
  const first = firstOf(part);
  const [view] = lastOf(part).views;
  const at = <time>{format.clock(first.decided_at_ms)}</time>;
  return (
    <tr data-testid={`outcome-${part.part_id}`}>
      <th scope="row">
        {view ? (
          <Link to={`/parts/${view.frame_id}`}>
            {part.part_id} {at}
          </Link>
        ) : (
          <span>
            {part.part_id} {at}
          </span>
        )}
      </th>
      <td>
        <Views part={part} />
      </td>
      <td>
        <Answer part={part} />
      </td>
      <td>
        <InTime outcome={first} />
      </td>
    </tr>
  );
}, isSame);

/** What is asked for anew comes as new objects; a row is drawn again only where it says something else. */
function isSame(before: { part: PartAnswers }, now: { part: PartAnswers }): boolean {
  return (
    before.part.revisions.length === now.part.revisions.length &&
    lastOf(before.part).outcome_id === lastOf(now.part).outcome_id &&
    before.part.answered?.event_id === now.part.answered?.event_id
  );
}

function Views({ part }: { part: PartAnswers }) {
  const { t } = useI18n();
  const { views, missing_cameras: missing } = lastOf(part);
  return (
    <ul className={styles["views"]}>
      {views.map((view) => (
        <li key={view.frame_id} title={view.expected ? view.camera_id : `${view.camera_id}: ${t("line.view.unexpected")}`}>
          <PartThumb part={{ ...view, part_id: `${part.part_id} · ${view.camera_id}` }} />
        </li>
      ))}
      {missing.map((camera) => (
        <li key={camera} className={styles["missing"]} title={t("line.view.missing", { camera })}>
          <Icon name="broken" size={18} />
          <span className="visually-hidden">{t("line.view.missing", { camera })}</span>
        </li>
      ))}
    </ul>
  );
}

/** The answer that the line got, and what has become of it since. */
export function Answer({ part }: { part: PartAnswers }) {
  const { t } = useI18n();
  const first = firstOf(part);
  const last = lastOf(part);
  const told = part.answered?.verdict ?? first.verdict;
  const reason = reasonText(first, t);
  return (
    <div className={styles["answer"]}>
      <VerdictBadge verdict={told} />
      <ul>
        {first.defect_class && told === "fail" && <li>{first.defect_class.replaceAll("_", " ")}</li>}
        {reason && <li>{reason}</li>}
        {first.missing_cameras.length > 0 && <li>{t("line.missing", { cameras: first.missing_cameras.join(", ") })}</li>}
        {last.revision > first.revision && (
          <li data-corrected={isCorrected(part)}>
            {t(isCorrected(part) ? "line.revised" : "line.revised.same", {
              verdict: t(`verdict.${last.verdict}`),
              revision: last.revision,
            })}
          </li>
        )}
      </ul>
    </div>
  );
}

export function InTime({ outcome }: { outcome: Outcome }) {
  const { t, format } = useI18n();
  return (
    <span className={styles["time"]} data-late={!outcome.in_time}>
      <span>
        {!outcome.in_time && <Icon name="clock" size={16} />}
        {timeText(outcome, t, format)}
      </span>
      <small>{t("line.took", { took: format.milliseconds(outcome.took_ms) })}</small>
    </span>
  );
}
