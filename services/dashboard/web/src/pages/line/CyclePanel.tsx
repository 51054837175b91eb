import type { Counts, CycleTimes, LineOutcomes } from "../../api/lines";
import { niceTop } from "../../components/chartScale";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { useSize } from "../../components/useSize";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import styles from "./CyclePanel.module.css";

const LEFT = 38;
const RIGHT = 8;
const TOP = 22;
const BOTTOM = 22;

/** How many passed, and how long answers took against the deadline. */
export function CyclePanel({ outcomes }: { outcomes: LineOutcomes | null }) {
  const { t } = useI18n();
  const counts = outcomes?.counts;
  const cycle = outcomes?.cycle;
  return (
    <Panel title={t("line.cycle")}>
      <div className={styles["panel"]} data-testid="cycle">
        {counts && <CountList counts={counts} />}
        {!cycle || cycle.parts === 0 ? <p className={styles["none"]}>{t("line.cycle.none")}</p> : <Histogram cycle={cycle} />}
      </div>
    </Panel>
  );
}

function CountList({ counts }: { counts: Counts }) {
  const { t, format } = useI18n();
  const said = { pass: counts.passed, fail: counts.failed, review: counts.reviewed };
  return (
    <div className={styles["counts"]}>
      <dl>
        {(["pass", "fail", "review"] as const).map((verdict) => (
          <div key={verdict}>
            <dt>
              <VerdictMark verdict={verdict} size={18} />
              {t(`line.counts.${verdict}`)}
            </dt>
            <dd>{format.count(said[verdict])}</dd>
          </div>
        ))}
        <div data-late={counts.late > 0}>
          <dt>
            <Icon name="clock" size={18} />
            {t("line.counts.late")}
          </dt>
          <dd>{format.count(counts.late)}</dd>
        </div>
      </dl>
      <p>{t("line.counts", { minutes: format.minutes(counts.window_s) })}</p>
    </div>
  );
}

function Histogram({ cycle }: { cycle: CycleTimes }) {
  const { t, format } = useI18n();
  const [box, boxWidth, height] = useSize();
  const right = Math.max(LEFT + 1, boxWidth - RIGHT);
  const floor = height - BOTTOM;
  const said = {
    count: format.count(cycle.parts),
    p50: cycle.p50_ms === null ? "–" : format.milliseconds(cycle.p50_ms),
    p99: cycle.p99_ms === null ? "–" : format.milliseconds(cycle.p99_ms),
    share: cycle.due === 0 ? "–" : format.percent(cycle.in_time / cycle.due),
  };
  const top = niceTop(Math.max(...cycle.bars.map(([, inTime, late]) => inTime + late)));
  const width = (right - LEFT) / cycle.bars.length;
  const x = (ms: number) => LEFT + (ms / cycle.bar_ms) * width;
  const y = (parts: number) => floor - (floor - TOP) * (parts / top);
  const ticks = cycle.bars.filter((_, place) => place % 8 === 0).map(([fromMs]) => fromMs);
  return (
    <figure className={styles["figure"]}>
      <figcaption>
        <strong>{cycle.due === 0 ? t("line.no_deadline") : t("line.cycle.share", said)}</strong>
        <span>{t("line.cycle.p50", said)}</span>
        <span>{t("line.cycle.p99", said)}</span>
        <span>{t("line.cycle.parts", said)}</span>
        <span className={styles["key"]}>
          <i data-kind="in_time" />
          {t("line.cycle.key.in_time")}
          <i data-kind="late" />
          {t("line.cycle.key.late")}
        </span>
      </figcaption>
      <div ref={box} className={styles["plot"]}>
        <svg role="img" aria-label={t("line.cycle.summary", said)}>
          <defs>
            <pattern id="cycle-late" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
              <rect width="6" height="6" className={styles["late"]} />
              <path d="M0 0V6" className={styles["stripe"]} />
            </pattern>
          </defs>
          {[0, top / 2, top].map((parts) => (
            <g key={parts}>
              <line className={styles["grid"]} x1={LEFT} x2={right} y1={y(parts)} y2={y(parts)} />
              <text className={styles["axis"]} x={LEFT - 6} y={y(parts) + 4} textAnchor="end">
                {format.count(parts)}
              </text>
            </g>
          ))}
          {cycle.bars.map(([fromMs, inTime, late]) => (
            <g key={fromMs}>
              <rect className={styles["bar"]} x={x(fromMs) + 0.5} width={width - 1} y={y(inTime)} height={floor - y(inTime)} />
              <rect fill="url(#cycle-late)" x={x(fromMs) + 0.5} width={width - 1} y={y(inTime + late)}
                height={y(inTime) - y(inTime + late)} />
            </g>
          ))}
          {ticks.map((fromMs) => (
            <text key={fromMs} className={styles["axis"]} x={x(fromMs)} y={height - 5} textAnchor={fromMs === 0 ? "start" : "middle"}>
              {fromMs === 0 ? "0" : format.milliseconds(fromMs)}
            </text>
          ))}
          <text className={styles["axis"]} x={right} y={height - 5} textAnchor="end">
            {t("line.cycle.more")}
          </text>
          {cycle.deadlines_ms.map((deadline) => (
            <g key={deadline} className={styles["deadline"]}>
              <line x1={x(deadline)} x2={x(deadline)} y1={TOP - 4} y2={floor} />
              <text x={x(deadline)} y={TOP - 9} textAnchor={x(deadline) > boxWidth * 0.8 ? "end" : "middle"}>
                {t("line.cycle.deadline", { deadline: format.milliseconds(deadline) })}
              </text>
            </g>
          ))}
        </svg>
      </div>
    </figure>
  );
}
