import { describe, expect, it } from "vitest";
import { EMPTY, Mask, areaOf, base64Of, brushAfter, cleared, drawn, firstBrush, rasterised, redo, undo, type Point, type Stroke } from "../src/review/mask";

const square: Stroke = { tool: "polygon", points: [[2, 1], [6, 1], [6, 4], [2, 4]] };
const dab = (x: number, y: number, radius = 2): Stroke => ({ tool: "brush", radius, points: [[x, y]] });
const rows = (mask: Mask) =>
  Array.from({ length: mask.height }, (_, y) => [...mask.values.subarray(y * mask.width, (y + 1) * mask.width)].map((one) => (one ? "#" : ".")).join(""));

describe("a mask", () => {
  it("fills a polygon where a pixel's centre is inside", () => {
    expect(rows(rasterised([square], 8, 5))).toEqual(["........", "..####..", "..####..", "..####..", "........"]);
  });

  it("fills a polygon that is not convex, in either direction", () => {
    const corner: Point[] = [[0, 0], [4, 0], [4, 2], [2, 2], [2, 4], [0, 4]];
    const expected = ["####", "####", "##..", "##.."];
    expect(rows(rasterised([{ tool: "polygon", points: corner }], 4, 4))).toEqual(expected);
    expect(rows(rasterised([{ tool: "polygon", points: [...corner].reverse() }], 4, 4))).toEqual(expected);
  });

  it("draws a round dab and a line with round ends", () => {
    expect(rows(rasterised([dab(3, 3)], 6, 6))).toEqual(["......", "..##..", ".####.", ".####.", "..##..", "......"]);
    const line = rasterised([{ tool: "brush", radius: 1, points: [[2, 2], [8, 2]] }], 10, 4);
    expect(rows(line)).toEqual(["..........", ".########.", ".########.", ".........."]);
  });

  it("leaves no gap in a fast stroke", () => {
    const mask = rasterised([{ tool: "brush", radius: 1, points: [[1, 1], [90, 60]] }], 100, 70);
    for (let x = 2; x < 89; x++) {
      const column = Array.from({ length: 70 }, (_, y) => mask.values[y * 100 + x] ?? 0);
      expect(column.reduce((sum, one) => sum + one, 0), `column ${x}`).toBeGreaterThan(0);
    }
  });

  it("is rubbed out by the eraser where it goes, and only there", () => {
    const mask = rasterised([square, { tool: "eraser", radius: 1, points: [[6, 2]] }], 8, 5);
    expect(rows(mask)).toEqual(["........", "..###...", "..###...", "..####..", "........"]);
  });

  it("stays within the picture, wherever one draws", () => {
    const mask = rasterised([dab(-1, -1, 3), dab(50, 50, 4), { tool: "polygon", points: [[6, -9], [99, -9], [99, 2], [6, 2]] }], 8, 5);
    expect(mask.pixels).toBe([...mask.values].filter((one) => one === 1).length);
    expect(rows(mask)[0]?.slice(6)).toBe("##");
    expect(rows(mask)[4]).toBe("........");
  });

  it("tells which part of the picture a stroke touched", () => {
    expect(new Mask(20, 20).draw(dab(10, 5))).toEqual({ left: 8, top: 3, right: 12, bottom: 7 });
  });

  it("has nothing of a polygon that is none", () => {
    expect(rasterised([{ tool: "polygon", points: [[0, 0], [5, 5]] }], 8, 5).pixels).toBe(0);
  });
});

describe("a drawing", () => {
  it("is taken back and brought again stroke by stroke", () => {
    const two = drawn(drawn(EMPTY, square), dab(1, 1));
    const one = undo(two);
    expect(one.strokes).toEqual([square]);
    expect(redo(one)).toEqual(two);
    expect(undo(EMPTY)).toBe(EMPTY);
    expect(redo(two)).toBe(two);
  });

  it("forgets what was taken back once something new is drawn", () => {
    expect(redo(drawn(undo(drawn(EMPTY, square)), dab(1, 1))).strokes).toEqual([dab(1, 1)]);
  });

  it("can be wiped, and the wiping undone", () => {
    const wiped = cleared(drawn(EMPTY, square));
    expect(rasterised(wiped.strokes, 8, 5).pixels).toBe(0);
    expect(rasterised(undo(wiped).strokes, 8, 5).pixels).toBe(12);
    expect(cleared(wiped)).toBe(wiped);
    expect(cleared(EMPTY)).toBe(EMPTY);
  });
});

describe("an area", () => {
  it("is the polygon drawn last since the drawing was wiped", () => {
    const other: Stroke = { tool: "polygon", points: [[0, 0], [3, 0], [3, 3]] };
    expect(areaOf([square, other, dab(1, 1)], 8, 5)).toEqual([[0, 0], [3, 0], [3, 3]]);
    expect(areaOf([square, { tool: "clear" }], 8, 5)).toEqual([]);
  });

  it("lies within the picture", () => {
    expect(areaOf([{ tool: "polygon", points: [[-4, 1.23], [99, 2], [3, 99]] }], 8, 5)).toEqual([[0, 1.2], [8, 2], [3, 5]]);
  });

  it("never has more corners than the record takes", () => {
    const points = Array.from({ length: 900 }, (_, index): Point => [Math.cos(index) * 4, Math.sin(index) * 4]);
    expect(areaOf([{ tool: "polygon", points }], 8, 5)).toHaveLength(512);
  });
});

describe("the brush", () => {
  it("suits the picture at first, and goes up and down in steps that end", () => {
    expect(firstBrush(640, 480)).toBe(7);
    expect(firstBrush(32, 32)).toBe(2);
    expect(brushAfter(7, 1)).toBe(12);
    expect(brushAfter(2, -1)).toBe(2);
    expect(brushAfter(120, 1)).toBe(120);
  });
});

it("bytes become base64 whatever their number", () => {
  const bytes = Uint8Array.from({ length: 20_000 }, (_, index) => index % 256);
  expect(Uint8Array.from(atob(base64Of(bytes)), (one) => one.charCodeAt(0))).toEqual(bytes);
});
