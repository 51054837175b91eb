import { useCallback } from "react";
import { Link } from "react-router";
import { fetchPartOutcome } from "../../api/lines";
import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { firstOf, lastOf, linePath } from "../../lines/state";
import { errorText } from "../../lines/words";
import { useLive } from "../../live/hooks";
import { useAsked } from "../../models/useAsked";
import { Answer, InTime } from "../line/OutcomeList";
import styles from "./OutcomePanel.module.css";

const EVERY_MS = 3_000;

/** What came of the part from all its views, and what the line was told; nothing where no outcome service is set. */
export function OutcomePanel({ part }: { part: Part }) {
  const { lines } = useLive();
  return lines?.offered ? <Outcome partId={part.inspection.part_id} lineId={part.inspection.line_id} /> : null;
}

function Outcome({ partId, lineId }: { partId: string; lineId: string }) {
  const { t, format } = useI18n();
  const ask = useCallback((signal: AbortSignal) => fetchPartOutcome(partId, lineId, signal), [partId, lineId]);
  const { value, problem } = useAsked(ask, EVERY_MS);
  if (value === null) {
    return (
      <Panel title={t("panel.outcome")}>
        <p className={styles["quiet"]}>{t(problem ? "line.outcomes.away" : "panel.outcome.none")}</p>
      </Panel>
    );
  }
  const told = value.answered;
  return (
    <Panel title={t("panel.outcome")} tone={lastOf(value).verdict}>
      <div className={styles["outcome"]} data-testid="part-outcome">
        <Answer part={value} />
        <InTime outcome={firstOf(value)} />
        <p className={styles["told"]}>
          {told?.verdict ? t("line.told", { verdict: t(`verdict.${told.verdict}`) }) : t("line.told.nothing")}
          {told && <span>{[told.connection, format.clock(told.at_ms), errorText(told.error_code, t)].filter(Boolean).join(" · ")}</span>}
        </p>
        <Link to={linePath(lineId)}>{t("line.title", { line: lineId })}</Link>
      </div>
    </Panel>
  );
}
