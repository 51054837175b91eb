import { useState, type PointerEvent } from "react";
import { useI18n } from "../i18n";
import { areaPath, linePath, niceTop, stretches } from "./chartScale";
import styles from "./TimeChart.module.css";
import { useSize } from "./useSize";

export interface Curve {
  label: string;
  colour: string;
  /** Dashed, so that curves differ by more than colour. */
  dashed?: boolean;
  filled?: boolean;
  /** One for each time; null where there is nothing to say. */
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Starts of the points, seconds since the epoch, evenly spaced, oldest first. */
  times: number[];
  pointS: number;
  windowS: number;
  curves: Curve[];
  show: (value: number) => string;
  leastTop: number;
  /** What stands below the plot, each at the start of a point; without it, how long ago. */
  ticks?: { startS: number; label: string }[];
  /** How the pointer's point is named; without it, by the clock. */
  name?: (startMs: number) => string;
}

const LEFT = 40;
const BOTTOM = 16;
const TOP = 6;

/** Curves over the last minutes, with the value under the pointer. */
export function TimeChart({ title, times, pointS, windowS, curves, show, leastTop, ticks, name }: Props) {
  const { t, format } = useI18n();
  const [box, width, height] = useSize();
  const [hover, setHover] = useState<number | null>(null);
  const all = curves.flatMap((curve) => curve.values).filter((value) => value !== null);
  const top = niceTop(Math.max(leastTop, ...all));
  const plotWidth = Math.max(1, width - LEFT);
  const floor = height - BOTTOM;
  const end = (times.at(-1) ?? 0) + pointS;
  const x = (startS: number) => LEFT + plotWidth * (1 - (end - startS - pointS / 2) / windowS);
  const y = (value: number) => floor - (floor - TOP) * (value / top);
  const spots = (curve: Curve) =>
    stretches(curve.values.map((value, index) => (value === null ? null : { x: x(times[index] ?? 0), y: y(value) })));
  const onMove = (event: PointerEvent) => {
    const left = event.currentTarget.getBoundingClientRect().left;
    const distances = times.map((time) => Math.abs(x(time) - (event.clientX - left)));
    setHover(distances.length > 0 ? distances.indexOf(Math.min(...distances)) : null);
  };
  const shown = (value: number | null | undefined) => (value === null || value === undefined ? "–" : show(value));
  const summary = curves
    .map((curve) => {
      const known = curve.values.filter((value) => value !== null);
      const high = known.length > 0 ? show(Math.max(...known)) : "–";
      return t("chart.summary", { title: curve.label, now: shown(curve.values.at(-1)), high });
    })
    .join("; ");
  return (
    <figure className={styles["chart"]}>
      <figcaption className={styles["head"]}>
        {title}
        {curves.length > 1 &&
          curves.map((curve) => (
            <span key={curve.label} className={styles["key"]}>
              <svg width="18" height="8" aria-hidden="true">
                <line x1="0" x2="18" y1="4" y2="4" stroke={curve.colour} strokeWidth="2.5"
                  strokeDasharray={curve.dashed ? "4 3" : undefined} />
              </svg>
              {curve.label}
            </span>
          ))}
      </figcaption>
      <div className={styles["plot"]} ref={box} onPointerMove={onMove} onPointerLeave={() => setHover(null)}>
        <svg role="img" aria-label={summary}>
          {[0, top / 2, top].map((value) => (
            <g key={value}>
              <line className={styles["grid"]} x1={LEFT} x2={width} y1={y(value)} y2={y(value)} />
              <text className={styles["axis"]} x={LEFT - 6} y={y(value) + 4} textAnchor="end">
                {show(value)}
              </text>
            </g>
          ))}
          {ticks?.map(({ startS, label }) => (
            <text key={startS} className={styles["axis"]} y={height - 2} x={x(startS - pointS / 2)} textAnchor="middle">
              {label}
            </text>
          ))}
          {!ticks && [windowS, windowS * 0.6, windowS * 0.2, 0].map((ago) => (
            <text key={ago} className={styles["axis"]} y={height - 2} x={LEFT + plotWidth * (1 - ago / windowS)}
              textAnchor={ago === 0 ? "end" : ago === windowS ? "start" : "middle"}>
              {ago === 0 ? t("chart.now") : t("chart.ago", { age: format.minutes(ago) })}
            </text>
          ))}
          {curves.map((curve) =>
            spots(curve).map((stretch) => (
              <g key={`${curve.label} ${stretch[0]?.x}`}>
                {curve.filled && <path d={areaPath(stretch, floor)} fill={curve.colour} opacity="0.16" />}
                {stretch.length === 1 && <circle cx={stretch[0]?.x} cy={stretch[0]?.y} r="2.5" fill={curve.colour} />}
                <path d={linePath(stretch)} fill="none" stroke={curve.colour} strokeWidth="2" strokeLinejoin="round"
                  strokeLinecap="round" strokeDasharray={curve.dashed ? "5 4" : undefined} />
              </g>
            )),
          )}
          {hover !== null && times[hover] !== undefined && (
            <line x1={x(times[hover])} x2={x(times[hover])} y1={TOP} y2={floor} stroke="var(--muted)" />
          )}
        </svg>
        {hover !== null && times[hover] !== undefined && (
          <div className={styles["tip"]} style={{ left: Math.min(Math.max(x(times[hover]), 60), width - 60) }}>
            {(name ?? format.clock)(times[hover] * 1000)} · {curves.map((curve) => shown(curve.values[hover])).join(" / ")}
          </div>
        )}
      </div>
    </figure>
  );
}
