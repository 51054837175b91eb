import { describe, expect, it } from "vitest";
import { statisticsUrl } from "../src/api/client";
import type { Shifts, Statistics, StatisticsRow } from "../src/api/types";
import { fill } from "../src/i18n";
import { en } from "../src/i18n/en";
import { makeFormats } from "../src/i18n/format";
import { barScale, barsOf, isEmpty, nameOf, options, share } from "../src/pages/statistics/figures";
import { fromField, isRange, spanFor, ticksOf, toField, windowOf } from "../src/pages/statistics/range";

const format = makeFormats("en-GB");
const t = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);
const HOUR = 3_600_000;
const NOW = 1_795_000_000_000;
const QUARTER = Math.floor(NOW / 900_000) * 900_000;

function row(change: Partial<StatisticsRow> = {}): StatisticsRow {
  return {
    name: "cam-1", line_id: "line-1", model_version: 0, day: "", begins_ms: 0, ends_ms: 0,
    inspections: 100, passed: 90, failed: 6, review: 4, late: 0, defect_rate: 0.06, first_pass_yield: 0.9,
    reviewed: 0, fails_reviewed: 0, false_rejects: 0, escapes: 0, wrong_reasons: 0,
    audit: { drawn: 0, reviewed: 0, undecided: 0, escapes: 0, covered: null, rate: null, low: null, high: null },
    ...change,
  };
}

function statistics(rows: StatisticsRow[], change: Partial<Statistics> = {}): Statistics {
  return { group: "camera", since_ms: 0, until_ms: 1, kept_since_ms: 0, rows, total: row({ name: "" }), ...change };
}

const shifts: Shifts = {
  shifts: [], time_zone: "Europe/Berlin", day_begins_ms: NOW - 10 * HOUR,
  shift: { name: "early", begins_ms: NOW - 4 * HOUR, ends_ms: NOW + 4 * HOUR },
};

describe("the time", () => {
  it("is the plant's own day and shift", () => {
    expect(windowOf("today", NOW, shifts, null)).toEqual({ sinceMs: NOW - 10 * HOUR, untilMs: NOW });
    expect(windowOf("shift", NOW, shifts, null)).toEqual({ sinceMs: NOW - 4 * HOUR, untilMs: NOW });
  });

  it("is not known between shifts, or before the plan is", () => {
    expect(windowOf("shift", NOW, { ...shifts, shift: null }, null)).toBeNull();
    expect(windowOf("today", NOW, null, null)).toBeNull();
  });

  it("reaches back as far as it says", () => {
    expect(windowOf("7d", NOW, null, null)).toEqual({ sinceMs: QUARTER - 7 * 24 * HOUR, untilMs: NOW });
  });

  it("never ends before it begins, though this clock is behind", () => {
    expect(windowOf("today", NOW - 20 * HOUR, shifts, null)).toEqual({ sinceMs: NOW - 10 * HOUR, untilMs: NOW - 10 * HOUR + 1 });
    expect(windowOf("own", NOW, null, { sinceMs: 5, untilMs: 5 })).toBeNull();
  });

  it("comes back from its fields as it went in", () => {
    const minute = Math.floor(NOW / 60_000) * 60_000;
    expect(fromField(toField(minute))).toBe(minute);
    expect([fromField(""), fromField("yesterday")]).toEqual([null, null]);
  });

  it("is one of those that can be chosen", () => {
    expect([isRange("7d"), isRange("constructor"), isRange(null)]).toEqual([true, false, false]);
  });
});

describe("points of a curve", () => {
  it("are as short as stays readable", () => {
    expect(spanFor({ sinceMs: 0, untilMs: HOUR })).toBe(300);
    expect(spanFor({ sinceMs: 0, untilMs: 24 * HOUR })).toBe(900);
    expect(spanFor({ sinceMs: 0, untilMs: 30 * 24 * HOUR })).toBe(21_600);
    expect(spanFor({ sinceMs: 0, untilMs: 400 * 24 * HOUR })).toBe(4 * 86_400);
  });

  it("have marks at round times within two days", () => {
    const day = Array.from({ length: 97 }, (_, index) => QUARTER / 1000 + index * 900);
    const marks = ticksOf(day, 900, (ms) => String(new Date(ms).getHours() % 4), () => "a day");
    expect(marks.length).toBeGreaterThanOrEqual(6);
    expect(new Set(marks.map((mark) => mark.label))).toEqual(new Set(["0"]));
  });

  it("have marks at the first point of a day over more", () => {
    const month = Array.from({ length: 121 }, (_, index) => QUARTER / 1000 + index * 21_600);
    const marks = ticksOf(month, 21_600, format.minute, format.day);
    expect(marks.length).toBe(6);
    expect(marks.every((mark) => new Date(mark.startS * 1000).getHours() < 6)).toBe(true);
    expect(ticksOf([], 900, format.minute, format.day)).toEqual([]);
  });
});

describe("figures", () => {
  it("that are not known are a dash and not zero", () => {
    expect([share(null, t, format), share(0, t, format)]).toEqual(["—", "0%"]);
  });

  it("have the decimals that a rare event needs", () => {
    expect([0.00012, 0.0362, 0.5, 0.9412, 1].map((one) => share(one, t, format))).toEqual(["0.012%", "3.6%", "50.0%", "94.1%", "100%"]);
  });

  it("of shifts are named by the plan, with the day on which they began", () => {
    expect(nameOf(row({ name: "night", day: "2026-11-25" }), "shift_of_day", t, format)).toBe("25 Nov · night");
    expect(nameOf(row({ name: "" }), "shift", t, format)).toBe("Outside of shifts");
  });

  it("of versions say which, or that no model saw the picture", () => {
    expect(nameOf(row({ name: "default", model_version: 3 }), "model_version", t, format)).toBe("default v3");
    expect(nameOf(row({ name: "default" }), "model_version", t, format)).toBe("default · no model");
  });

  it("are compared on a scale that all of them fit", () => {
    const audit = { ...row().audit, rate: 0.01, low: 0.001, high: 0.2 };
    const shown = statistics([row(), row({ name: "cam-2", audit })]);
    const bars = barsOf(shown, "escape_rate", t, format);
    expect(bars.map((bar) => bar.value)).toEqual([null, 0.01]);
    expect([barScale(bars, "escape_rate"), barScale(bars, "first_pass_yield"), barScale([], "defect_rate")]).toEqual([0.2, 1, 0.001]);
  });

  it("are none only where nothing was inspected and nothing reviewed", () => {
    const none = row({ inspections: 0 });
    expect(isEmpty(statistics([], { total: none }))).toBe(true);
    expect(isEmpty(statistics([], { total: { ...none, reviewed: 1 } }))).toBe(false);
  });
});

describe("the filters", () => {
  it("offer what was inspected and what is chosen", () => {
    expect(options([row({ name: "b" }), row({ name: "a" }), row({ name: "b" })], "gone")).toEqual(["a", "b", "gone"]);
  });

  it("reach the service in the address", () => {
    const url = statisticsUrl({ sinceMs: 1, untilMs: 2, group: "span", spanS: 900, line: "a&b", camera: "" }, true);
    expect(url).toBe("/api/v1/statistics.csv?group=span&since_ms=1&until_ms=2&span_s=900&line=a%26b");
  });
});
