import type { CaseState, QueuedCase, QueueStats, Verdict } from "../api/types";

export type Order = "newest" | "oldest" | "gain";

/** What is looked at, named as in the address of the page and of the interface; empty does not narrow. */
export interface Filter {
  line: string;
  camera: string;
  product: string;
  verdict: Verdict | "";
  kind: QueuedCase["kind"] | "";
  state: CaseState | "";
  defect_class: string;
  alias: string;
  model_version: string;
  answered_by: string;
  since_ms: string;
  until_ms: string;
}

export interface View {
  filter: Filter;
  order: Order;
  /** An id that is looked for; the filter waits meanwhile. */
  find: string;
}

export const NO_FILTER: Filter = {
  line: "",
  camera: "",
  product: "",
  verdict: "",
  kind: "",
  state: "",
  defect_class: "",
  alias: "",
  model_version: "",
  answered_by: "",
  since_ms: "",
  until_ms: "",
};

export const VERDICTS = ["pass", "fail", "review"] as const;
export const KINDS = ["fail", "review", "audit"] as const;
export const STATES = ["open", "reviewed", "disputed"] as const;
export const ORDERS = ["newest", "oldest", "gain"] as const;

const LONGEST = 128;
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** What a field may hold; anything else in an address is not meant, and would only be refused. */
const FITS: Record<keyof Filter, (value: string) => boolean> = {
  line: isId,
  camera: isId,
  product: isId,
  verdict: (value) => VERDICTS.some((one) => one === value),
  kind: (value) => KINDS.some((one) => one === value),
  state: (value) => STATES.some((one) => one === value),
  defect_class: (value) => value.length <= 64,
  alias: isId,
  model_version: (value) => /^[1-9]\d{0,8}$/.test(value),
  answered_by: (value) => value.length <= 64,
  since_ms: isTime,
  until_ms: isTime,
};

export const FIELDS = Object.keys(NO_FILTER) as (keyof Filter)[];

export function fits(field: keyof Filter, value: string): boolean {
  return value === "" || FITS[field](value);
}

/** Read a view from an address; what cannot be meant is left out. */
export function readView(search: URLSearchParams): View {
  const filter = { ...NO_FILTER } as Record<keyof Filter, string>;
  for (const field of FIELDS) {
    const value = search.get(field)?.trim() ?? "";
    if (fits(field, value)) filter[field] = value;
  }
  const order = ORDERS.find((one) => one === search.get("order")) ?? "newest";
  return { filter: filter as unknown as Filter, order, find: (search.get("find") ?? "").trim().slice(0, LONGEST) };
}

/** Write a view as the shortest address that gives it back. */
export function writeView(view: View): URLSearchParams {
  const search = filterQuery(view.filter);
  if (view.order !== "newest") search.set("order", view.order);
  if (view.find !== "") search.set("find", view.find);
  return search;
}

/** The filter alone, as the interface takes it. */
export function filterQuery(filter: Filter): URLSearchParams {
  const search = new URLSearchParams();
  for (const field of FIELDS) if (filter[field] !== "") search.set(field, filter[field]);
  return search;
}

export function fieldsSet(filter: Filter): number {
  return FIELDS.filter((field) => filter[field] !== "").length;
}

export function allOf(stats: QueueStats): number {
  return stats.open + stats.reviewed + stats.disputed;
}

/** Cases of a filter, by counts that do not read its state. */
export function inState(stats: QueueStats, state: CaseState | ""): number {
  return state === "" ? allOf(stats) : stats[state];
}

/** A time as a field of a form takes it, on this machine's clock; empty for none. */
export function localTime(atMs: string): string {
  if (atMs === "") return "";
  const at = new Date(Number(atMs));
  if (Number.isNaN(at.getTime())) return "";
  const two = (value: number) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function fromLocalTime(value: string): string {
  const atMs = value === "" ? Number.NaN : new Date(value).getTime();
  return Number.isNaN(atMs) ? "" : String(atMs);
}

function isId(value: string): boolean {
  return value.length <= LONGEST && ID.test(value) && !value.includes("..");
}

function isTime(value: string): boolean {
  return /^\d{1,15}$/.test(value);
}
