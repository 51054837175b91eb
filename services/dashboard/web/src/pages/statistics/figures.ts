import type { Statistics, StatisticsGroup, StatisticsRow } from "../../api/types";
import type { Translate } from "../../i18n";
import type { Formats } from "../../i18n/format";

/** What bars compare. */
export const COMPARED = ["defect_rate", "first_pass_yield", "escape_rate"] as const;
export type Compared = (typeof COMPARED)[number];

/** A share in words; what is not known is a dash and not 0. */
export function share(value: number | null, t: Translate, format: Formats): string {
  return value === null ? t("stats.unknown") : format.percentRare(value);
}

/** What a row is about. */
export function nameOf(row: StatisticsRow, group: StatisticsGroup, t: Translate, format: Formats): string {
  if (group === "model_version") {
    return row.model_version === 0 ? `${row.name} · ${t("stats.no_model")}` : t("stats.version", { alias: row.name, version: row.model_version });
  }
  if (group === "shift" || group === "shift_of_day") {
    if (row.name === "") return t("stats.outside");
    // The date is the plant's, and noon by the reader's clock is on it wherever they are.
    return row.day ? `${format.day(new Date(`${row.day}T12:00:00`).getTime())} · ${row.name}` : row.name;
  }
  return row.name;
}

export function keyOf(row: StatisticsRow): string {
  return `${row.line_id} ${row.name} ${row.model_version} ${row.begins_ms}`;
}

export interface Bar {
  key: string;
  name: string;
  value: number | null;
  low: number | null;
  high: number | null;
}

/** One bar for each group, in the table's order. */
export function barsOf(statistics: Statistics, figure: Compared, t: Translate, format: Formats): Bar[] {
  return statistics.rows.map((row) => ({
    key: keyOf(row),
    name: nameOf(row, statistics.group, t, format),
    value: figure === "escape_rate" ? row.audit.rate : row[figure],
    low: figure === "escape_rate" ? row.audit.low : null,
    high: figure === "escape_rate" ? row.audit.high : null,
  }));
}

/** The right end of all bars: yields are compared on the whole scale, rare events on their own. */
export function barScale(bars: Bar[], figure: Compared): number {
  if (figure === "first_pass_yield") return 1;
  const all = bars.flatMap((bar) => [bar.value, bar.high]).filter((value) => value !== null);
  return Math.max(0.001, ...all);
}

/** Names that a filter offers: what was inspected in this time, and what is chosen already. */
export function options(rows: StatisticsRow[], chosen: string): string[] {
  const names = new Set(rows.map((row) => row.name));
  if (chosen) names.add(chosen);
  return [...names].sort((one, other) => one.localeCompare(other));
}

/** Nothing was inspected, and nothing reviewed either. */
export function isEmpty(statistics: Statistics): boolean {
  return statistics.total.inspections === 0 && statistics.total.reviewed === 0 && statistics.total.audit.drawn === 0;
}
