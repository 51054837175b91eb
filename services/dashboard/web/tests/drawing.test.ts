import { describe, expect, it } from "vitest";
import { areaPath, linePath, niceTop, stretches } from "../src/components/chartScale";
import { scoreScale } from "../src/components/scoreScale";
import { stagesOf } from "../src/pages/part/stages";
import { FIT, MAX_SCALE, moved, zoomAt } from "../src/components/zoom";

describe("the score bar", () => {
  it("gives the review band the same width whatever the limits", () => {
    const wide = scoreScale(0.1, 0.2, 0.5, 0.8);
    const narrow = scoreScale(0.1, 0.019, 0.02, 0.021);
    expect([wide.low, wide.high]).toEqual([narrow.low, narrow.high]);
  });

  it("puts a score into the zone that its verdict names", () => {
    const at = (score: number) => scoreScale(score, 0.55, 0.62, 0.68);
    expect(at(0.549).score).toBeLessThan(at(0.549).low);
    expect(at(0.55).score).toBe(at(0.55).low);
    expect(at(0.679).score).toBeLessThan(at(0.679).high);
    expect(at(0.68).score).toBe(at(0.68).high);
    expect(at(1).score).toBe(1);
  });

  it("puts a certain defect at the end of the bar, however wide the review band is", () => {
    expect(scoreScale(1, 0.1, 0.12, 0.92).score).toBe(1);
  });

  it("stays on the bar for scores beyond 1, below 0 and for a band of no width", () => {
    for (const [score, low, threshold, high] of [[37, 2, 3, 4], [-3, 0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]] as const) {
      const scale = scoreScale(score, low, threshold, high);
      expect(scale.score).toBeGreaterThanOrEqual(0);
      expect(scale.score).toBeLessThanOrEqual(1);
    }
  });
});

describe("the chart", () => {
  it("ends its axis on a round number that is high enough", () => {
    expect([0, 0.07, 0.31, 1, 7.2, 8, 11, 99].map(niceTop)).toEqual([1, 0.08, 0.4, 1, 8, 8, 15, 100]);
  });

  it("leaves a gap where nothing is known", () => {
    const spot = { x: 1, y: 2 };
    expect(stretches([spot, null, spot, spot])).toEqual([[spot], [spot, spot]]);
  });

  it("closes an area down to its floor", () => {
    const spots = [{ x: 0, y: 5 }, { x: 10, y: 3 }];
    expect(linePath(spots)).toBe("M0.0 5.0L10.0 3.0");
    expect(areaPath(spots, 9)).toBe("M0.0 5.0L10.0 3.0L10.0 9L0.0 9Z");
  });
});

describe("the stages", () => {
  it("sum up to the total, what no stage claims being named too", () => {
    const stages = stagesOf({ queue_ms: 10, fetch_ms: 0, decode_ms: 5, infer_ms: 20, total_ms: 40 });
    expect(stages).toEqual([
      { stage: "queue_ms", ms: 10 },
      { stage: "decode_ms", ms: 5 },
      { stage: "infer_ms", ms: 20 },
      { stage: "other_ms", ms: 5 },
    ]);
  });

  it("are none when nothing was measured", () => {
    expect(stagesOf({ queue_ms: 0, fetch_ms: null, decode_ms: 0, infer_ms: 0, total_ms: 0 })).toEqual([]);
  });
});

describe("the viewer", () => {
  it("keeps what lies under the pointer where it is", () => {
    const view = zoomAt(FIT, 4, 300, 100, 800, 600);
    expect(view.scale).toBe(4);
    expect((300 - view.x) / view.scale).toBeCloseTo(300);
    expect((100 - view.y) / view.scale).toBeCloseTo(100);
  });

  it("never shrinks below the fit nor grows without end", () => {
    expect(zoomAt(FIT, 0.1, 5, 5, 800, 600)).toEqual(FIT);
    expect(zoomAt(FIT, 1e9, 5, 5, 800, 600).scale).toBe(MAX_SCALE);
  });

  it("cannot be dragged off the picture", () => {
    const view = zoomAt(FIT, 2, 400, 300, 800, 600);
    expect(moved(view, 9_999, 9_999, 800, 600)).toEqual({ scale: 2, x: 0, y: 0 });
    expect(moved(view, -9_999, -9_999, 800, 600)).toEqual({ scale: 2, x: -800, y: -600 });
  });
});
