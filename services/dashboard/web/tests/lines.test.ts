import { describe, expect, it } from "vitest";
import type { Alarm, LineConnection, LineNow, LinesNow, Outcome, PartAnswers } from "../src/api/lines";
import { fill } from "../src/i18n";
import { de } from "../src/i18n/de";
import { en } from "../src/i18n/en";
import { makeFormats } from "../src/i18n/format";
import { firstOf, isCorrected, lastOf, lineOf, linesPath, newAlarms, redLines, shownLight, standingAlarms, stepOf } from "../src/lines/state";
import { alarmText, causeText, errorText, eventText, kindText, problemText, reasonText, timeText } from "../src/lines/words";

const say = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);
const sage = (key: keyof typeof en, values?: Record<string, string | number>) => fill(de[key], values);
const format = makeFormats("en-GB");

const alarm = (alarm_id: string, some: Partial<Alarm> = {}): Alarm => ({
  alarm_id, rule: "r", light: "amber", text: "as the service tells it", kind: "in_a_row", count: 5, of: 5, window_s: 0,
  counted: ["fail", "review"], raised_at_ms: 1_000, part_id: "p", camera_id: "", product: "", defect_class: "", acknowledged_by: "", acknowledged_at_ms: null, note: "", repeats: 0, ...some,
});

const line = (line_id: string, some: Partial<LineNow> = {}): LineNow => ({
  line_id, product: "disc", lot: "", light: "green", causes: [], connections: [], alarms: [], past_alarms: [],
  reference: { phase: null, occasion: "", due_at_ms: null, ended_at_ms: null, parts: [] },
  counts: { window_s: 900, passed: 0, failed: 0, reviewed: 0, late: 0 }, newest: null, ...some,
});

const lines = (...some: LineNow[]): LinesNow => ({ at_ms: 1, offered: true, known: true, away: null, lines: some });

const outcome = (some: Partial<Outcome> = {}): Outcome => ({
  outcome_id: "o", revision: 1, verdict: "pass", reason: "views", in_time: true, began_at_ms: 0, deadline_at_ms: 250, decided_at_ms: 80,
  took_ms: 80, spare_ms: 170, views: [], missing_cameras: [], defect_class: "", detail: "", ...some,
});

const part = (revisions: Outcome[], some: Partial<PartAnswers> = {}): PartAnswers => ({
  part_id: "p", line_id: "a", product: "disc", lot: "", revisions, answered: null, ...some,
});

describe("what is told at the top of every page", () => {
  it("names red alarms first, then the newest, of all lines", () => {
    const found = standingAlarms(
      lines(
        line("a", { alarms: [alarm("1", { raised_at_ms: 10 }), alarm("2", { raised_at_ms: 30 })] }),
        line("b", { alarms: [alarm("3", { light: "red", raised_at_ms: 5 })] }),
      ),
    );
    expect(found.map((one) => [one.lineId, one.alarm.alarm_id])).toEqual([["b", "3"], ["a", "2"], ["a", "1"]]);
    expect(standingAlarms(null)).toEqual([]);
  });

  it("names lines that are red for another reason than an alarm", () => {
    const heartbeat = { token: "heartbeat", about: "press", text: "", light: "red" } as const;
    const away = { token: "connection", about: "mes", text: "", light: "amber" } as const;
    const raised = { token: "alarm", about: "1", text: "", light: "red" } as const;
    const told = lines(line("a", { causes: [raised] }), line("b", { causes: [away, heartbeat] }), line("c", { causes: [away] }));
    expect(redLines(told).map((one) => one.line_id)).toEqual(["b"]);
  });

  it("speaks an alarm once, and again only when another comes", () => {
    const standing = standingAlarms(lines(line("a", { alarms: [alarm("1"), alarm("2")] })));
    expect(newAlarms(new Set(), standing)).toHaveLength(2);
    expect(newAlarms(new Set(["1", "2"]), standing)).toEqual([]);
    expect(newAlarms(new Set(["1"]), standing).map((one) => one.alarm.alarm_id)).toEqual(["2"]);
  });
});

describe("the light that is shown", () => {
  const red = line("a", { light: "red" });

  it("is the service's own while that answers", () => {
    expect(shownLight(lines(red), red, false)).toBe("red");
  });

  it("is dark on old news, whatever it was", () => {
    expect(shownLight({ ...lines(red), away: { since_ms: 1, detail: "" } }, red, false)).toBeNull();
    expect(shownLight(lines(red), red, true)).toBeNull();
    expect(shownLight(null, null, false)).toBeNull();
  });
});

describe("the way to the lines", () => {
  it("leads to the only line, and else to the list", () => {
    expect(linesPath(lines(line("a")))).toBe("/line/a");
    expect(linesPath(lines(line("a"), line("b")))).toBe("/lines");
    expect(linesPath(lines())).toBe("/lines");
    expect(lineOf(lines(line("a")), "b")).toBeNull();
  });
});

describe("a handshake", () => {
  it("lights the step that it is at, and none at the safe level", () => {
    expect((["ready", "busy", "result", "releasing", "safe"] as const).map(stepOf)).toEqual(["ready", "busy", "result", "acknowledge", null]);
  });
});

describe("a part's answer", () => {
  it("is the first one, whatever stands on record later", () => {
    const both = part([outcome({ verdict: "review" }), outcome({ revision: 2, verdict: "fail" })]);
    expect([firstOf(both).verdict, lastOf(both).verdict, isCorrected(both)]).toEqual(["review", "fail", true]);
    expect(isCorrected(part([outcome(), outcome({ revision: 2 })]))).toBe(false);
  });

  it("tells whether it was in time, and by how much it was not", () => {
    expect(timeText(outcome(), say, format)).toBe("in time, 170 ms to spare");
    expect(timeText(outcome({ in_time: false, spare_ms: -62 }), say, format)).toBe("late by 62 ms");
    expect(timeText(outcome({ in_time: false, spare_ms: 0 }), say, format)).toBe("not complete at the deadline");
    expect(timeText(outcome({ spare_ms: null }), say, format)).toBe("no deadline");
  });

  it("says why where that is not what its views say", () => {
    expect(reasonText(outcome(), say)).toBeNull();
    expect(reasonText(outcome({ reason: "overloaded" }), say)).toBe("Too many parts were open at once");
  });
});

describe("words", () => {
  const told: [english: string, german: string, fields: Partial<Alarm>][] = [
    ["5 parts in a row did not pass", "5 Teile in Folge nicht gut", {}],
    ["3 parts in a row were answered late", "3 Teile in Folge zu spät", { count: 3, of: 3, counted: ["late"] }],
    ["1 part failed", "1 Teil Ausschuss", { count: 1, of: 1, counted: ["fail"] }],
    ["4 of the last 20 parts failed or were answered late", "4 der letzten 20 Teile Ausschuss oder zu spät",
      { kind: "of_last", count: 4, of: 20, counted: ["late", "fail"] }],
    ["7 of 33 parts of product disc failed within 10 min", "7 von 33 Teilen von Produkt disc Ausschuss innerhalb von 10 min",
      { kind: "rate", count: 7, of: 33, window_s: 600, product: "disc", counted: ["fail"] }],
    ["30 of 31 parts passed within 90 s", "30 von 31 Teilen gut innerhalb von 90 s",
      { kind: "rate", count: 30, of: 31, window_s: 90, counted: ["pass"] }],
    ["3 parts in a row failed with oil stain at camera top-1", "3 Teile in Folge Ausschuss mit oil stain an Kamera top-1",
      { count: 3, of: 3, counted: ["fail"], defect_class: "oil stain", camera_id: "top-1" }],
  ];

  // The English ones are what `AlarmRule.describe` says in services/core/alarm_rule.py.
  it.each(told)("tell the alarm %s in both languages", (english, german, fields) => {
    expect(alarmText(alarm("1", fields), say)).toBe(english);
    expect(alarmText(alarm("1", fields), sage)).toBe(german);
  });

  it.each<Partial<Alarm>>([
    { kind: "" }, { counted: [] }, { count: 0 }, { kind: "rate", of: 0 },
  ])("tell an alarm whose numbers are not known as the service tells it: %j", (fields) => {
    expect(alarmText(alarm("1", fields), sage)).toBe("as the service tells it");
  });

  it("tell why a light is not green", () => {
    const cause = { token: "alarm", about: "1", text: "5 parts in a row did not pass", light: "amber" } as const;
    expect(causeText(cause, [alarm("1")], sage)).toBe("5 Teile in Folge nicht gut");
    expect(causeText(cause, [], sage)).toBe("5 parts in a row did not pass");
    expect(causeText({ token: "heartbeat", about: "press", text: "x", light: "red" }, [], say)).toBe("The PLC's heartbeat at press stands still");
    expect(causeText({ token: "reference", about: "early", text: "x", light: "red" }, [], say)).toBe("The check with reference parts failed");
    expect(causeText({ token: "reference", about: "early", text: "x", light: "amber" }, [], say)).toBe("A check with reference parts is due");
    expect(causeText({ token: "no_outcomes", about: "", text: "x", light: "red" }, [], say)).toBe("Parts come, and no outcome is there in time");
    expect(causeText({ token: "flood", about: "", text: "water in the hall", light: "red" }, [], say)).toBe("water in the hall");
  });

  it("tell every error that a PLC can be shown, and an unknown one by its number", () => {
    expect(errorText(0, say)).toBeNull();
    for (let code = 1; code <= 8; code += 1) expect(errorText(code, say)).not.toContain("no words");
    expect(errorText(99, say)).toContain("99");
  });

  it("tell kinds, events and problems, and what is not known as it is", () => {
    expect(kindText({ kind: "opcua" } as LineConnection, say)).toBe("OPC UA");
    expect(kindText({ kind: "smoke" } as LineConnection, say)).toBe("smoke");
    expect(eventText({ kind: "ack_missing" } as never, say)).toBe("No acknowledgement in time");
    expect(eventText({ kind: "tea_break" } as never, say)).toBe("tea_break");
    expect(problemText({ reason: "unavailable", message: "x" }, say)).toContain("does not answer now");
    expect(problemText({ reason: "odd", message: "as it is" }, say)).toBe("as it is");
  });
});
