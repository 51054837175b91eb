import { describe, expect, it } from "vitest";
import type { Change, ComparedPart, Correction, PartCounts, PartVerdict } from "../src/api/models";
import { isExact, isNews, mineFirst, picked, pickOf, rightBefore, rightOf } from "../src/models/changes";

const counts = (some: Partial<PartCounts> = {}): PartCounts => ({
  parts: 0, now_right: 0, still_right: 0, asks: 0, still_wrong: 0, now_wrong: 0, left_out: 0, waiting: 0, ...some,
});

const said = (verdict: PartVerdict["verdict"], version: number): PartVerdict => ({
  verdict, score: 0.5, threshold: 0.6, review_low: 0.5, review_high: 0.7, model_version: version, defect_class: "",
});

const correction = (reviewer: string, some: Partial<Correction> = {}): Correction => ({
  review_id: `of-${reviewer}`, reviewer, kind: "verdict", settled: "pass", defect_class: "", reviewed_at_ms: 1, withdrawn: false, ...some,
});

const part = (some: Partial<ComparedPart> = {}): ComparedPart => ({
  case_id: "c", part_id: "p", line_id: "l", camera_id: "k", captured_at_ms: 1, settled: "pass", outcome: "now_right",
  left_out: "", before: said("fail", 1), after: said("pass", 2), corrections: [correction("ada")], ...some,
});

const change = (some: Partial<Change> = {}): Change => ({
  alias: "default", revision: 4, live_version: 2, previous_version: 1, action: "promote", actor: "mira", at_ms: 1_000,
  note: "", state: "done", ended_at_ms: 2_000, counts: counts(), flips: [], flipped: null, frames: 0, frames_compared: 0,
  frames_since_ms: null, frames_until_ms: null, planned: 2, settled: 2, waits_for: "", ...some,
});

describe("what a new model changed", () => {
  it("counts what comes out right among what could be compared", () => {
    const all = counts({ parts: 14, now_right: 9, still_right: 2, asks: 1, still_wrong: 1, now_wrong: 0, left_out: 1 });
    expect(rightOf(all)).toEqual({ right: 11, compared: 13 });
    expect(rightOf(counts({ parts: 2, waiting: 2 }))).toEqual({ right: 0, compared: 0 });
  });

  it("picks parts by how they come out, also those that wait or cannot be compared", () => {
    const waiting = part({ outcome: null, after: null });
    const gone = part({ outcome: null, after: null, left_out: "picture_missing" });
    expect([pickOf(part()), pickOf(waiting), pickOf(gone)]).toEqual(["now_right", "waiting", "left_out"]);
    expect(picked([part(), waiting, gone], "waiting")).toEqual([waiting]);
    expect(picked([part(), waiting, gone], "all")).toHaveLength(3);
  });

  it("tells how many were right before", () => {
    expect(rightBefore([part(), part({ before: said("pass", 1) }), part({ before: said("pass", 1), after: null })])).toBe(1);
  });

  it("takes one's own correction back first, and never one that is taken back already", () => {
    const [ada, bob] = [correction("ada"), correction("bob")];
    expect(mineFirst(part({ corrections: [ada, bob] }), "ada")).toBe(ada);
    expect(mineFirst(part({ corrections: [ada, bob] }), null)).toBe(bob);
    expect(mineFirst(part({ corrections: [correction("ada", { withdrawn: true })] }), "ada")).toBeNull();
  });

  it("is news until somebody looked at it", () => {
    expect(isNews(undefined, null)).toBe(false);
    expect(isNews(change(), null)).toBe(true);
    expect(isNews(change(), "999")).toBe(true);
    expect(isNews(change(), "1000")).toBe(false);
    expect(isNews(change({ settled: 0, state: "comparing" }), null)).toBe(false);
  });

  it("says of an estimate whether anything was estimated", () => {
    expect(isExact({ low: 3, high: 3 })).toBe(true);
    expect(isExact({ low: 1, high: 3 })).toBe(false);
  });
});
