import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { ScoreBar } from "../../components/ScoreBar";
import { VerdictBadge } from "../../components/VerdictBadge";
import { useI18n } from "../../i18n";
import styles from "./VerdictPanel.module.css";
import { split, why } from "../../components/why";

export function VerdictPanel({ part }: { part: Part }) {
  const { t, format } = useI18n();
  const { inspection } = part;
  const disagreeing = split(inspection, t, format);
  return (
    <Panel title={t("panel.verdict")} tone={inspection.verdict}>
      <div className={styles["top"]}>
        <VerdictBadge verdict={inspection.verdict} size="large" />
        {inspection.score !== null && <span className={styles["score"]}>{format.score(inspection.score)}</span>}
      </div>
      <p className={styles["why"]}>{why(inspection, t, format)}</p>
      {disagreeing && <p className={styles["detail"]}>{disagreeing}</p>}
      <ScoreBar part={inspection} size="large" />
      {inspection.defect_class && (
        <p className={styles["class"]}>{t("why.class", { name: inspection.defect_class.replaceAll("_", " ") })}</p>
      )}
      {inspection.detail && <p className={styles["detail"]}>{inspection.detail}</p>}
    </Panel>
  );
}
