import type { ReactNode } from "react";
import type { Point, Wall } from "../../api/types";
import { TimeChart } from "../../components/TimeChart";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import styles from "./FigureBand.module.css";

/** The figures of everything shown, and how they moved over the last five minutes. */
export function FigureBand({ wall, roomy }: { wall: Wall; roomy: boolean }) {
  const { t, format } = useI18n();
  const { figures } = wall;
  const total = figures.passed + figures.failed + figures.reviewed;
  const share = (count: number) => (total > 0 ? format.percent(count / total) : t("figures.none"));
  const latency = (value: number | null) => (value === null ? t("figures.none") : format.milliseconds(value));
  return (
    <section className={styles["band"]} data-roomy={roomy} aria-label={t("figures.label")}>
      <dl className={styles["figures"]}>
        <Figure name={t("figures.inspected")} value={format.count(total)} detail={t("figures.window")} />
        <Figure name={t("figures.fail")} value={share(figures.failed)} tone={figures.failed > 0 ? "fail" : ""}
          mark={<VerdictMark verdict="fail" size={15} />} detail={t("figures.parts", { count: format.count(figures.failed) })} />
        <Figure name={t("figures.review")} value={share(figures.reviewed)} tone={figures.reviewed > 0 ? "review" : ""}
          mark={<VerdictMark verdict="review" size={15} />}
          detail={t("figures.parts", { count: format.count(figures.reviewed) })} />
        <Figure name={t("figures.throughput")} value={format.rate(figures.frames_per_s)} detail={t("figures.per_second")} />
        <Figure name={t("figures.latency")} value={latency(figures.p50_ms)}
          detail={t("figures.latency.detail", { p99: latency(figures.p99_ms) })} />
        <Figure name={t("figures.in_time")} value={share(total - figures.late)}
          detail={t("figures.in_time.detail", { count: format.count(figures.late) })} />
      </dl>
      <Charts series={wall.series} pointS={wall.point_s} windowS={wall.window_s} />
    </section>
  );
}

interface FigureProps {
  name: string;
  value: string;
  detail: string;
  tone?: "" | "fail" | "review";
  mark?: ReactNode;
}

function Figure({ name, value, detail, tone = "", mark }: FigureProps) {
  return (
    <div className={styles["figure"]} data-tone={tone}>
      <dt>
        {mark}
        {name}
      </dt>
      <dd className={styles["value"]}>
        {value}
        <span className={styles["detail"]}>{detail}</span>
      </dd>
    </div>
  );
}

function Charts({ series, pointS, windowS }: { series: Point[]; pointS: number; windowS: number }) {
  const { t, format } = useI18n();
  const times = series.map(([startS]) => startS);
  const totals = series.map(([, passed, failed, reviewed]) => passed + failed + reviewed);
  // Before the first verdict the line was not "at zero": nothing is known of it.
  const first = totals.findIndex((total) => total > 0);
  const rates = totals.map((total, index) => (first < 0 || index < first ? null : total / pointS));
  const shares = (column: 2 | 3) => series.map((point, index) => (totals[index] ? point[column] / totals[index] : null));
  const fine = (value: number) => (Number.isInteger(value) ? format.count(value) : format.rate(value));
  const percent = (value: number) => `${fine(Math.round(value * 1000) / 10)} %`;
  return (
    <>
      <div className={styles["chart"]}>
        <TimeChart title={t("chart.throughput")} times={times} pointS={pointS} windowS={windowS} show={fine} leastTop={1}
          curves={[{ label: t("chart.throughput"), colour: "var(--accent)", filled: true, values: rates }]} />
      </div>
      <div className={styles["chart"]}>
        <TimeChart title={t("chart.share")} times={times} pointS={pointS} windowS={windowS} show={percent} leastTop={0.1}
          curves={[
            { label: t("chart.share.fail"), colour: "var(--fail)", filled: true, values: shares(2) },
            { label: t("chart.share.review"), colour: "var(--review)", dashed: true, values: shares(3) },
          ]} />
      </div>
    </>
  );
}
