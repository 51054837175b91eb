import { LEGEND_URL } from "../api/client";
import type { Explanation } from "../api/types";
import { useI18n } from "../i18n";
import styles from "./MapLegend.module.css";

/** What the colours over the picture stand for: one line, because it covers a part of the picture. */
export function MapLegend({ explanation, broken }: { explanation: Explanation; broken: boolean }) {
  const { t } = useI18n();
  const { calibrated } = explanation.scale;
  return (
    <div className={styles["legend"]} data-calibrated={calibrated} data-testid="map-legend">
      {broken && <span role="status">{t("map.broken")}</span>}
      {!broken && (
        <>
          <span>{t(calibrated ? "map.legend.low" : "map.legend.uncalibrated")}</span>
          <img src={LEGEND_URL} alt="" draggable={false} />
          <span>{t("map.legend.high")}</span>
        </>
      )}
    </div>
  );
}
