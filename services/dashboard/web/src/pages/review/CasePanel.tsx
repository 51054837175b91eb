import type { Explanation, Problem, QueuedCase } from "../../api/types";
import { GradeMark } from "../../components/GradeMark";
import { found, methodName, together } from "../../components/mapWords";
import { findingOf } from "../../components/maps";
import { Panel } from "../../components/Panel";
import { ScoreBar } from "../../components/ScoreBar";
import { VerdictBadge } from "../../components/VerdictBadge";
import { split, why } from "../../components/why";
import { useI18n } from "../../i18n";
import { standing } from "../../review/answers";
import type { LoadedCase } from "../../review/station";
import styles from "./CasePanel.module.css";

interface Props {
  one: QueuedCase;
  /** Null while it is on its way. */
  loaded: LoadedCase | null;
  /** The map on screen. */
  focus: Explanation | null;
  /** The map is switched off. */
  off: boolean;
  problem: Problem | null;
}

/** What the model says of the case, and how far its map can be trusted. */
export function CasePanel({ one, loaded, focus, off, problem }: Props) {
  const { t, format } = useI18n();
  const { inspection } = one;
  const disagreeing = split(inspection, t, format);
  const answered = standing(loaded?.detail.reviews ?? []).map((review) => review.reviewer);
  return (
    <Panel title={t("review.case", { part: inspection.part_id, camera: inspection.camera_id, time: format.clock(inspection.captured_at_ms) })}
      tone={inspection.verdict}>
      <div className={styles["top"]}>
        <VerdictBadge verdict={inspection.verdict} size="large" />
        {inspection.score !== null && <span className={styles["score"]}>{format.score(inspection.score)}</span>}
      </div>
      <p className={styles["why"]}>{why(inspection, t, format)}</p>
      <ScoreBar part={inspection} />
      {one.kind === "audit" && <p className={styles["quiet"]}>{t("review.audit")}</p>}
      {one.kind === "neighbour" && <p className={styles["quiet"]}>{t("review.neighbour")}</p>}
      {inspection.defect_class && <p className={styles["quiet"]}>{t("why.class", { name: inspection.defect_class.replaceAll("_", " ") })}</p>}
      {disagreeing && <p className={styles["quiet"]}>{disagreeing}</p>}
      {inspection.detail && <p className={styles["quiet"]}>{inspection.detail}</p>}
      <div className={styles["map"]} aria-live="off">
        {problem && <p className={styles["quiet"]}>{t("review.case.problem", { reason: problem.message })}</p>}
        {!problem && !loaded && <p className={styles["quiet"]}>{t("review.case.loading")}</p>}
        {loaded && <MapWords loaded={loaded} focus={focus} off={off} flagged={inspection.verdict !== "pass"} />}
      </div>
      {answered.length > 0 && (
        <p className={styles["answered"]}>{t("review.case.answered", { names: [...new Set(answered)].join(", ") })}</p>
      )}
    </Panel>
  );
}

function MapWords({ loaded, focus, off, flagged }: { loaded: LoadedCase; focus: Explanation | null; off: boolean; flagged: boolean }) {
  const { t, format } = useI18n();
  if (loaded.maps.length === 0) return <p className={styles["quiet"]}>{t("explained.empty")}</p>;
  if (!focus) {
    const allD = loaded.maps.every(({ explanation }) => explanation.grade === "D");
    return <p className={styles["quiet"]}>{t(flagged && allD ? "explained.all_d" : "review.case.no_map_shown")}</p>;
  }
  const calm = findingOf(focus) === "calm";
  const agreement = together(loaded.detail.explanations, loaded.detail.explained.agreement, t, format);
  return (
    <>
      <div className={styles["grade"]}>
        <GradeMark grade={focus.grade} size="large" />
        <div>
          <strong>{t(calm ? "found.calm.title" : focus.grade === null ? "grade.none" : `grade.${focus.grade}`)}</strong>
          <span>{methodName(focus.method, t)}</span>
        </div>
      </div>
      <p className={styles["found"]}>{off ? t("review.case.map_off") : calm && flagged ? t("found.calm.flagged") : found(focus, t, format)}</p>
      {agreement && <p className={styles["quiet"]}>{agreement}</p>}
    </>
  );
}
