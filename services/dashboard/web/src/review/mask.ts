/** A corner or a place along a stroke, in pixels of the picture from its upper left corner. */
export type Point = [x: number, y: number];

/** One thing drawn. Later strokes lie over earlier ones. */
export type Stroke =
  | { tool: "brush" | "eraser"; radius: number; points: Point[] }
  | { tool: "polygon"; points: Point[] }
  | { tool: "clear" };

/** What was drawn, and what was taken back of it. */
export interface Drawing {
  strokes: readonly Stroke[];
  undone: readonly Stroke[];
}

export const EMPTY: Drawing = { strokes: [], undone: [] };

export const BRUSHES_PX = [2, 4, 7, 12, 20, 32, 50, 80, 120] as const;

/** Most corners that an area may have. */
const MAX_CORNERS = 512;

export function drawn(drawing: Drawing, stroke: Stroke): Drawing {
  return { strokes: [...drawing.strokes, stroke], undone: [] };
}

export function undo(drawing: Drawing): Drawing {
  const last = drawing.strokes.at(-1);
  return last ? { strokes: drawing.strokes.slice(0, -1), undone: [...drawing.undone, last] } : drawing;
}

export function redo(drawing: Drawing): Drawing {
  const last = drawing.undone.at(-1);
  return last ? { strokes: [...drawing.strokes, last], undone: drawing.undone.slice(0, -1) } : drawing;
}

/** Wipe everything, in a way that can be undone; nothing to wipe changes nothing. */
export function cleared(drawing: Drawing): Drawing {
  const last = drawing.strokes.at(-1);
  return last && last.tool !== "clear" ? drawn(drawing, { tool: "clear" }) : drawing;
}

/** A brush that suits a picture: about a thirtieth of its shorter side. */
export function firstBrush(width: number, height: number): number {
  const ideal = Math.min(width, height) / 60;
  return BRUSHES_PX.reduce((best, one) => (Math.abs(one - ideal) < Math.abs(best - ideal) ? one : best), BRUSHES_PX[0] as number);
}

/** The next wider or narrower brush. */
export function brushAfter(radius: number, by: 1 | -1): number {
  const place = BRUSHES_PX.findIndex((one) => one >= radius);
  return BRUSHES_PX[Math.min(BRUSHES_PX.length - 1, Math.max(0, (place < 0 ? BRUSHES_PX.length : place) + by))] ?? radius;
}

/** What of the picture a change touched: corners, the lower right one outside of it. */
export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** A picture of two values: 1 on the defect, 0 elsewhere. */
export class Mask {
  readonly values: Uint8Array;

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.values = new Uint8Array(width * height);
  }

  get pixels(): number {
    let count = 0;
    for (const value of this.values) count += value;
    return count;
  }

  /** Draw a stroke; gives the part of the picture that it touched. */
  draw(stroke: Stroke): Box {
    if (stroke.tool === "clear") {
      this.values.fill(0);
      return { left: 0, top: 0, right: this.width, bottom: this.height };
    }
    if (stroke.tool === "polygon") return this.fillPolygon(stroke.points);
    let touched = EMPTY_BOX;
    for (const [index, point] of stroke.points.entries()) {
      const from = stroke.points[index - 1] ?? point;
      touched = union(touched, this.drawSegment(from, point, stroke.radius, stroke.tool === "brush" ? 1 : 0));
    }
    return touched;
  }

  /** Draw one piece of a stroke with round ends. A pixel is on it when its centre is. */
  drawSegment(from: Point, to: Point, radius: number, value: 0 | 1): Box {
    const box = this.clipped(
      Math.min(from[0], to[0]) - radius,
      Math.min(from[1], to[1]) - radius,
      Math.max(from[0], to[0]) + radius,
      Math.max(from[1], to[1]) + radius,
    );
    const [alongX, alongY] = [to[0] - from[0], to[1] - from[1]];
    const lengthSquared = alongX * alongX + alongY * alongY;
    for (let y = box.top; y < box.bottom; y++) {
      for (let x = box.left; x < box.right; x++) {
        const [byX, byY] = [x + 0.5 - from[0], y + 0.5 - from[1]];
        const share = lengthSquared === 0 ? 0 : Math.min(1, Math.max(0, (byX * alongX + byY * alongY) / lengthSquared));
        const [offX, offY] = [byX - share * alongX, byY - share * alongY];
        if (offX * offX + offY * offY <= radius * radius) this.values[y * this.width + x] = value;
      }
    }
    return box;
  }

  private fillPolygon(points: Point[]): Box {
    if (points.length < 3) return EMPTY_BOX;
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const box = this.clipped(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    for (let y = box.top; y < box.bottom; y++) {
      const crossings = crossingsAt(points, y + 0.5);
      for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
        // From the first pixel whose centre is inside to the last.
        const start = Math.max(0, Math.ceil((crossings[pair] ?? 0) - 0.5));
        const end = Math.min(this.width, Math.ceil((crossings[pair + 1] ?? 0) - 0.5));
        if (end > start) this.values.fill(1, y * this.width + start, y * this.width + end);
      }
    }
    return box;
  }

  private clipped(left: number, top: number, right: number, bottom: number): Box {
    const between = (value: number, most: number) => Math.min(most, Math.max(0, value));
    return {
      left: between(Math.floor(left), this.width),
      top: between(Math.floor(top), this.height),
      right: between(Math.ceil(right), this.width),
      bottom: between(Math.ceil(bottom), this.height),
    };
  }
}

const EMPTY_BOX: Box = { left: 0, top: 0, right: 0, bottom: 0 };

function union(one: Box, other: Box): Box {
  if (one.right <= one.left || one.bottom <= one.top) return other;
  if (other.right <= other.left || other.bottom <= other.top) return one;
  return {
    left: Math.min(one.left, other.left),
    top: Math.min(one.top, other.top),
    right: Math.max(one.right, other.right),
    bottom: Math.max(one.bottom, other.bottom),
  };
}

/** Where a polygon's edges cross a row, from left to right. */
function crossingsAt(points: Point[], y: number): number[] {
  const found: number[] = [];
  for (const [index, [toX, toY]] of points.entries()) {
    const [fromX, fromY] = points.at(index - 1) ?? [toX, toY];
    if (fromY <= y === toY <= y) continue;
    found.push(fromX + ((y - fromY) / (toY - fromY)) * (toX - fromX));
  }
  return found.sort((a, b) => a - b);
}

/** Everything drawn, as one mask. */
export function rasterised(strokes: readonly Stroke[], width: number, height: number): Mask {
  const mask = new Mask(width, height);
  const wiped = strokes.findLastIndex((one) => one.tool === "clear");
  for (const stroke of strokes.slice(wiped + 1)) mask.draw(stroke);
  return mask;
}

/** The polygon drawn last, as the corners of an area within the picture; empty where there is none. */
export function areaOf(strokes: readonly Stroke[], width: number, height: number): Point[] {
  const wiped = strokes.findLastIndex((one) => one.tool === "clear");
  const polygon = strokes.slice(wiped + 1).findLast((one) => one.tool === "polygon");
  if (polygon?.tool !== "polygon" || polygon.points.length < 3) return [];
  const place = (value: number, most: number) => Math.round(Math.min(most, Math.max(0, value)) * 10) / 10;
  return polygon.points.slice(0, MAX_CORNERS).map(([x, y]) => [place(x, width), place(y, height)]);
}

/** White on black, of the picture's size, as base64; null where nothing is marked. */
export async function maskPng(strokes: readonly Stroke[], width: number, height: number): Promise<string | null> {
  const mask = rasterised(strokes, width, height);
  if (mask.pixels === 0) return null;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("the browser gives no canvas");
  const picture = context.createImageData(width, height);
  const words = new Uint32Array(picture.data.buffer);
  for (const [index, value] of mask.values.entries()) words[index] = value === 1 ? 0xffffffff : 0xff000000;
  context.putImageData(picture, 0, 0);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("the browser made no PNG of the mask");
  return base64Of(new Uint8Array(await blob.arrayBuffer()));
}

/** Base64 of bytes, piece by piece: a call takes only so many arguments. */
export function base64Of(bytes: Uint8Array): string {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8_192) text += String.fromCharCode(...bytes.subarray(start, start + 8_192));
  return btoa(text);
}
