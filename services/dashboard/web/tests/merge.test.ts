import { describe, expect, it } from "vitest";
import type { Stats } from "../src/api/types";
import { LATEST_KEPT, lastDecidedAt, withBatch, withStats } from "../src/live/merge";
import { FIGURES, inspection, wall } from "./samples";

const camera = (state: ReturnType<typeof wall>) => state.lines[0]?.cameras[0];

describe("new verdicts on the wall", () => {
  it("come first, in the camera's order and not in the order of arrival", () => {
    const next = withBatch(wall([inspection(2)]), { at_ms: 5_000, verdicts: [inspection(4), inspection(3)] });
    expect(camera(next)?.latest.map((one) => one.sequence)).toEqual([4, 3, 2]);
    expect(next.at_ms).toBe(5_000);
  });

  it("are bounded per camera", () => {
    const many = Array.from({ length: 60 }, (_, index) => inspection(index));
    expect(camera(withBatch(wall(), { at_ms: 1, verdicts: many }))?.latest).toHaveLength(LATEST_KEPT);
  });

  it("replace what was said of the same frame before, and its flag with it", () => {
    const before = wall([inspection(1, { verdict: "fail" })]);
    const again = inspection(1, { verdict: "pass", model_version: 2, decided_at_ms: 9_000 });
    const next = camera(withBatch(before, { at_ms: 1, verdicts: [again] }));
    expect(next?.latest).toEqual([again]);
    expect(next?.flagged).toEqual([]);
  });

  it("do not replace a verdict that was decided later", () => {
    const late = inspection(1, { verdict: "fail", decided_at_ms: 9_000 });
    const next = camera(withBatch(wall([late]), { at_ms: 1, verdicts: [inspection(1)] }));
    expect(next?.latest[0]?.verdict).toBe("fail");
  });

  it("bring a camera and a line with them that were not there", () => {
    const other = inspection(1, { line_id: "line-0", camera_id: "cam-9", verdict: "review" });
    const next = withBatch(wall(), { at_ms: 1, verdicts: [other] });
    expect(next.lines.map((line) => line.line_id)).toEqual(["line-0", "line-1"]);
    expect(next.lines[0]?.cameras[0]?.flagged).toEqual([other]);
  });

  it("leave other lines as they are, so that they are not drawn again", () => {
    const before = withBatch(wall(), { at_ms: 1, verdicts: [inspection(1, { line_id: "line-2" })] });
    const after = withBatch(before, { at_ms: 2, verdicts: [inspection(2)] });
    expect(after.lines[1]).toBe(before.lines[1]);
  });
});

describe("new figures on the wall", () => {
  const stats: Stats = {
    at_ms: 7_000,
    figures: { ...FIGURES, seen: 9 },
    series: [
      [5, 2, 0, 0],
      [10, 3, 1, 0],
    ],
    components: [],
    lines: [{ line_id: "line-1", figures: FIGURES, series: [], cameras: [{ camera_id: "cam-1", figures: FIGURES }] }],
  };

  it("keep the parts and move the curve on, a point once sent being replaced by its newer self", () => {
    const before = { ...wall([inspection(1)]), series: [[0, 1, 0, 0], [5, 1, 0, 0]] as [number, number, number, number][] };
    const next = withStats(before, stats);
    expect(camera(next)?.latest).toHaveLength(1);
    expect(next.figures.seen).toBe(9);
    expect(next.series).toEqual([
      [0, 1, 0, 0],
      [5, 2, 0, 0],
      [10, 3, 1, 0],
    ]);
  });

  it("let go of cameras that the server no longer knows", () => {
    expect(withStats(wall([inspection(1)]), { ...stats, lines: [] }).lines).toEqual([]);
  });
});

it("the newest decision is found over all cameras, and none is null", () => {
  expect(lastDecidedAt(wall())).toBeNull();
  expect(lastDecidedAt(wall([inspection(3), inspection(2)]))).toBe(3_040);
});
