import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { stagesOf } from "./stages";
import styles from "./TimingsPanel.module.css";

export function TimingsPanel({ part }: { part: Part }) {
  const { t, format } = useI18n();
  const stages = stagesOf(part.timings);
  const { cycle_time_ms: deadline, in_time: inTime } = part.inspection;
  const total = part.timings.total_ms ?? 0;
  const length = Math.max(total, stages.reduce((sum, { ms }) => sum + ms, 0)) || 1;
  return (
    <Panel title={t("panel.timings")}>
      {stages.length === 0 ? (
        <p className={styles["total"]}>{t("stage.none")}</p>
      ) : (
        <>
          <div className={styles["bar"]} aria-hidden="true">
            {stages.map(({ stage, ms }) => (
              <span key={stage} data-stage={stage} style={{ width: `${(100 * ms) / length}%` }} />
            ))}
          </div>
          <dl className={styles["legend"]}>
            {stages.map(({ stage, ms }) => (
              <div key={stage}>
                <dt>
                  <span className={styles["key"]} data-stage={stage} />
                  {t(`stage.${stage}`)}
                </dt>
                <dd>{format.milliseconds(ms)}</dd>
              </div>
            ))}
          </dl>
        </>
      )}
      <p className={styles["total"]}>
        {t("stage.total", { total: format.milliseconds(total) })}
        {deadline > 0 && ` · ${t("stage.deadline", { deadline: format.milliseconds(deadline) })}`}
        {deadline > 0 && " · "}
        {deadline > 0 && <span className={inTime ? "" : styles["late"]}>{t(inTime ? "camera.in_time" : "camera.late")}</span>}
      </p>
    </Panel>
  );
}
