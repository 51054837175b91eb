import { LEGEND_URL } from "../../api/client";
import type { Explanation } from "../../api/types";
import { useI18n } from "../../i18n";
import styles from "./MapLegend.module.css";
import { methodName } from "./mapWords";

/** What the colours over the picture stand for. */
export function MapLegend({ explanation, broken }: { explanation: Explanation; broken: boolean }) {
  const { t } = useI18n();
  const { calibrated } = explanation.scale;
  return (
    <div className={styles["legend"]} data-testid="map-legend">
      <strong>{methodName(explanation.method, t)}</strong>
      {broken && <span role="status">{t("map.broken")}</span>}
      {!broken && (
        <div className={styles["scale"]} data-calibrated={calibrated}>
          <span>{t(calibrated ? "map.legend.low" : "map.legend.weaker")}</span>
          <img src={LEGEND_URL} alt="" draggable={false} />
          <span>{t("map.legend.high")}</span>
        </div>
      )}
      {!broken && !calibrated && <span className={styles["note"]}>{t("map.legend.uncalibrated")}</span>}
    </div>
  );
}
