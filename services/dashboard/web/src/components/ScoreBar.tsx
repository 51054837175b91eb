import type { Inspection } from "../api/types";
import { useI18n } from "../i18n";
import styles from "./ScoreBar.module.css";
import { scoreScale } from "./scoreScale";

/** A score with the limits that it meets. */
export type Scored = Pick<Inspection, "score" | "threshold" | "review_low" | "review_high">;

const percent = (share: number) => `${(share * 100).toFixed(2)}%`;

/** The score against its limits: pass zone, hatched review band, fail zone, and a needle. */
export function ScoreBar({ part, size = "normal" }: { part: Scored; size?: "normal" | "large" }) {
  const { t, format } = useI18n();
  const { score, review_low: low, review_high: high, threshold } = part;
  if (score === null || low === null || high === null || threshold === null) return null;
  const scale = scoreScale(score, low, threshold, high);
  const label = t("score.of", { score: format.score(score), low: format.score(low), high: format.score(high) });
  return (
    <div>
      <div className={styles["bar"]} data-size={size} role="img" aria-label={label}>
        <span className={`${styles["zone"]} ${styles["review"]}`}
          style={{ left: percent(scale.low), width: percent(scale.high - scale.low) }} />
        <span className={`${styles["zone"]} ${styles["fail"]}`} style={{ left: percent(scale.high) }} />
        <span className={styles["threshold"]} style={{ left: percent(scale.threshold) }} />
        <span className={styles["needle"]} style={{ left: percent(scale.score) }} />
      </div>
      {size === "large" && (
        <div className={styles["ticks"]} aria-hidden="true">
          <span style={{ right: percent(1 - scale.low) }}>{t("score.below", { value: format.score(low) })}</span>
          <span style={{ left: percent(scale.high) }}>{t("score.from", { value: format.score(high) })}</span>
        </div>
      )}
    </div>
  );
}
