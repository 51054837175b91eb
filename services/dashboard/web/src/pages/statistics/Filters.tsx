import type { ReactNode } from "react";
import type { Shifts, StatisticsGroup, StatisticsRow } from "../../api/types";
import { useI18n } from "../../i18n";
import styles from "./Filters.module.css";
import { options } from "./figures";
import { RANGES, toField, type Range } from "./range";

export const GROUPS = ["line", "camera", "product", "shift", "shift_of_day", "model_version"] as const satisfies readonly StatisticsGroup[];

/** What is asked; empty does not narrow. */
export interface Choice {
  range: Range;
  group: (typeof GROUPS)[number];
  line: string;
  camera: string;
  product: string;
  /** Of an own time, as its fields have it. */
  since: string;
  until: string;
}

interface Props {
  choice: Choice;
  onChange: (change: Partial<Choice>) => void;
  shifts: Shifts | null;
  /** What was inspected in this time. */
  cameras: StatisticsRow[];
  products: StatisticsRow[];
  children: ReactNode;
}

export function Filters({ choice, onChange, shifts, cameras, products, children }: Props) {
  const { t } = useI18n();
  const lines = cameras.map((row) => ({ ...row, name: row.line_id }));
  const ofLine = cameras.filter((row) => choice.line === "" || row.line_id === choice.line);
  const shift = shifts?.shift;
  const onRange = (range: Range) => {
    onChange({ range, ...(range === "own" && !choice.since ? lastDay() : {}) });
  };
  return (
    <form className={styles["filters"]} aria-label={t("stats.filters")} onSubmit={(event) => event.preventDefault()}>
      <fieldset className={styles["ranges"]}>
        <legend className="visually-hidden">{t("stats.range")}</legend>
        {RANGES.map((range) => (
          <label key={range} data-disabled={range === "shift" && !shift}>
            <input type="radio" name="range" value={range} checked={choice.range === range} disabled={range === "shift" && !shift}
              onChange={() => onRange(range)} />
            {range === "shift" && shift ? t("stats.range.shift.named", { name: shift.name }) : t(`stats.range.${range}`)}
          </label>
        ))}
      </fieldset>
      {choice.range === "own" && (
        <>
          <label className={styles["field"]}>
            <span>{t("stats.since")}</span>
            <input type="datetime-local" value={choice.since} max={choice.until} onChange={(event) => onChange({ since: event.target.value })} />
          </label>
          <label className={styles["field"]}>
            <span>{t("stats.until")}</span>
            <input type="datetime-local" value={choice.until} min={choice.since} onChange={(event) => onChange({ until: event.target.value })} />
          </label>
        </>
      )}
      <Select label={t("stats.line")} all={t("stats.line.all")} value={choice.line} names={options(lines, choice.line)}
        onChange={(line) => onChange({ line, camera: "" })} />
      <Select label={t("stats.camera")} all={t("stats.camera.all")} value={choice.camera} names={options(ofLine, choice.camera)}
        onChange={(camera) => onChange({ camera })} />
      <Select label={t("stats.product")} all={t("stats.product.all")} value={choice.product}
        names={options(products, choice.product)} onChange={(product) => onChange({ product })} />
      <label className={styles["field"]}>
        <span>{t("stats.group")}</span>
        <select value={choice.group} onChange={(event) => onChange({ group: GROUPS.find((one) => one === event.target.value) ?? "camera" })}>
          {GROUPS.map((group) => (
            <option key={group} value={group}>
              {t(`stats.group.${group}`)}
            </option>
          ))}
        </select>
      </label>
      <div className={styles["end"]}>{children}</div>
    </form>
  );
}

/** What an own time begins with. */
function lastDay(): { since: string; until: string } {
  const now = Date.now();
  return { since: toField(now - 86_400_000), until: toField(now) };
}

interface SelectProps {
  label: string;
  all: string;
  value: string;
  names: string[];
  onChange: (value: string) => void;
}

function Select({ label, all, value, names, onChange }: SelectProps) {
  return (
    <label className={styles["field"]}>
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">{all}</option>
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
