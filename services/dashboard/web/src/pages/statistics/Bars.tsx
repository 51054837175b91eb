import { useId, useState } from "react";
import type { Statistics } from "../../api/types";
import { useI18n } from "../../i18n";
import styles from "./Bars.module.css";
import { barScale, barsOf, COMPARED, share, type Bar, type Compared } from "./figures";

const MOST = 14;

/** One figure of each group beside the others; the table has the same numbers. */
export function Bars({ statistics }: { statistics: Statistics }) {
  const { t, format } = useI18n();
  const [figure, setFigure] = useState<Compared>("defect_rate");
  const id = useId();
  const bars = barsOf(statistics, figure, t, format);
  const scale = barScale(bars, figure);
  return (
    <section className={styles["panel"]} aria-labelledby={id}>
      <div className={styles["head"]}>
        <h2 id={id}>{t("stats.bars")}</h2>
        <select aria-label={t("stats.bars.figure")} value={figure}
          onChange={(event) => setFigure(COMPARED.find((one) => one === event.target.value) ?? "defect_rate")}>
          {COMPARED.map((one) => (
            <option key={one} value={one}>
              {t(`stats.${one}`)}
            </option>
          ))}
        </select>
      </div>
      <ul className={styles["bars"]}>
        {bars.slice(0, MOST).map((bar) => (
          <li key={bar.key}>
            <span className={styles["name"]} title={bar.name}>
              {bar.name}
            </span>
            <Track bar={bar} scale={scale} />
            <span className={styles["value"]}>{said(bar)}</span>
          </li>
        ))}
      </ul>
      {bars.length > MOST && <p className={styles["more"]}>{t("stats.bars.more", { count: format.count(bars.length - MOST) })}</p>}
    </section>
  );

  function said(bar: Bar): string {
    const value = share(bar.value, t, format);
    if (bar.low === null || bar.high === null) return value;
    return t("stats.bars.interval", { value, low: format.percentRare(bar.low), high: format.percentRare(bar.high) });
  }
}

function Track({ bar, scale }: { bar: Bar; scale: number }) {
  const percent = (value: number) => `${(100 * value) / scale}%`;
  return (
    <span className={styles["track"]} aria-hidden="true">
      {bar.value !== null && <span className={styles["bar"]} style={{ width: percent(bar.value) }} />}
      {bar.low !== null && bar.high !== null && (
        <span className={styles["interval"]} style={{ left: percent(bar.low), width: percent(bar.high - bar.low) }} />
      )}
    </span>
  );
}
