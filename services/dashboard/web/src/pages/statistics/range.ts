import type { Shifts } from "../../api/types";

export const RANGES = ["today", "shift", "24h", "7d", "30d", "own"] as const;
export type Range = (typeof RANGES)[number];

export interface Window {
  sinceMs: number;
  untilMs: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const QUARTER_MS = 900_000;
const LENGTH_MS: Partial<Record<Range, number>> = { "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS };
/** Lengths of a point; the service counts by 5 minutes. */
const SPANS_S = [300, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];
const MOST_POINTS = 120;

export function isRange(text: string | null): text is Range {
  return RANGES.some((one) => one === text);
}

/**
 * The stretch of time that a choice means; null where it means none: between shifts, or before both ends are given.
 * The day and the shift are the plant's own, as the service says them.
 */
export function windowOf(range: Range, nowMs: number, shifts: Shifts | null, own: Window | null): Window | null {
  if (range === "own") return own && own.sinceMs < own.untilMs ? own : null;
  if (range === "today") return shifts && { sinceMs: shifts.day_begins_ms, untilMs: later(nowMs, shifts.day_begins_ms) };
  if (range === "shift") {
    const shift = shifts?.shift;
    return shift ? { sinceMs: shift.begins_ms, untilMs: later(nowMs, shift.begins_ms) } : null;
  }
  // From a quarter of an hour on, so that points lie at round times.
  return { sinceMs: Math.floor((nowMs - (LENGTH_MS[range] ?? DAY_MS)) / QUARTER_MS) * QUARTER_MS, untilMs: nowMs };
}

/** The shortest point with which a curve stays readable, in seconds. */
export function spanFor(window: Window): number {
  const lengthS = (window.untilMs - window.sinceMs) / 1000;
  const fitting = SPANS_S.find((span) => lengthS / span <= MOST_POINTS);
  return fitting ?? Math.ceil(lengthS / MOST_POINTS / 86_400) * 86_400;
}

export interface Tick {
  startS: number;
  label: string;
}

/** Minutes between marks by the clock. */
const STEPS_MIN = [5, 15, 30, 60, 120, 180, 240, 360, 720];
const MOST_TICKS = 7;

/** A few marks below a curve: at round times within two days, at the first point of a day over more. */
export function ticksOf(timesS: number[], pointS: number, minute: (ms: number) => string, day: (ms: number) => string): Tick[] {
  const times = timesS.map((startS) => ({ startS, at: new Date(startS * 1000) }));
  if ((timesS.length * pointS) / 86_400 <= 2) {
    for (const step of STEPS_MIN) {
      const round = times.filter(({ at }) => (at.getHours() * 60 + at.getMinutes()) % step === 0);
      if (round.length <= MOST_TICKS) return round.map(({ startS }) => ({ startS, label: minute(startS * 1000) }));
    }
  }
  const days = times.filter(({ at }, index) => index > 0 && at.getDate() !== times[index - 1]?.at.getDate());
  const every = Math.ceil(days.length / MOST_TICKS);
  return days.filter((_, index) => index % every === 0).map(({ startS }) => ({ startS, label: day(startS * 1000) }));
}

/** What a field for a local date and time takes and gives. */
export function toField(ms: number): string {
  const at = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return at.toISOString().slice(0, 16);
}

export function fromField(text: string): number | null {
  const ms = new Date(text).getTime();
  return text && Number.isFinite(ms) && ms > 0 ? ms : null;
}

/** A clock that is a moment behind the server's must not make the time end before it begins. */
function later(nowMs: number, beginsMs: number): number {
  return Math.max(nowMs, beginsMs + 1);
}
