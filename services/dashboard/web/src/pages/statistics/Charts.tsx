import type { Statistics, StatisticsRow } from "../../api/types";
import { TimeChart } from "../../components/TimeChart";
import { useI18n } from "../../i18n";
import styles from "./Charts.module.css";
import { ticksOf } from "./range";

/** How the figures moved; where nothing was inspected there is no curve. */
export function Charts({ curve, nowMs }: { curve: Statistics; nowMs: number }) {
  const { t, format } = useI18n();
  const times = curve.rows.map((row) => row.begins_ms / 1000);
  const first = curve.rows[0];
  const second = curve.rows[1];
  if (!first) return null;
  const pointS = ((second?.begins_ms ?? first.ends_ms) - first.begins_ms) / 1000;
  const span =
    pointS < 3_600
      ? t("stats.span.minutes", { count: format.count(pointS / 60) })
      : t("stats.span.hours", { count: format.count(pointS / 3_600) });
  const common = {
    times,
    pointS,
    windowS: pointS * times.length,
    ticks: ticksOf(times, pointS, format.minute, format.day),
    name: format.dayAndMinute,
  };
  // A number of a point that is still being filled, or that the end cuts off, is no drop and no leap; a share is one already.
  const finished = (row: StatisticsRow) => row.ends_ms - row.begins_ms >= pointS * 1000 && row.ends_ms <= nowMs;
  const shares = (value: (row: StatisticsRow) => number | null) => curve.rows.map(value);
  const numbers = (value: (row: StatisticsRow) => number) => curve.rows.map((row) => (finished(row) ? value(row) : null));
  return (
    <div className={styles["charts"]}>
      <div className={styles["chart"]}>
        <TimeChart {...common} title={t("stats.chart.rates")} show={format.percentRare} leastTop={0.01}
          curves={[
            { label: t("stats.chart.fail"), colour: "var(--fail)", values: shares((row) => row.defect_rate) },
            { label: t("stats.chart.review"), colour: "var(--review)", dashed: true, values: shares((row) => (row.inspections > 0 ? row.review / row.inspections : null)) },
          ]} />
      </div>
      <div className={styles["chart"]}>
        <TimeChart {...common} title={t("stats.chart.inspections", { span })} show={format.count} leastTop={10}
          curves={[
            { label: t("stats.inspections"), colour: "var(--accent)", filled: true, values: numbers((row) => row.inspections) },
          ]} />
      </div>
    </div>
  );
}
