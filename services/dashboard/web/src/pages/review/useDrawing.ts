import { useCallback, useLayoutEffect, useMemo, useRef, useState } from "react";
import type { QueuedCase } from "../../api/types";
import type { Pen, Spot } from "../../components/Viewer";
import { brushAfter, cleared, drawn, firstBrush, rasterised, redo, undo, type Box, type Mask, type Point, type Stroke } from "../../review/mask";
import type { Correction } from "./useCorrection";

export type Tool = "brush" | "eraser" | "polygon";

export interface DrawingTools {
  width: number;
  height: number;
  tool: Tool;
  radius: number;
  strokes: readonly Stroke[];
  /** Corners of a polygon that is not closed yet. */
  corners: readonly Point[];
  pen: Pen;
  canvas: (canvas: HTMLCanvasElement | null) => void;
  cursor: React.RefObject<SVGCircleElement | null>;
  choose: (tool: Tool) => void;
  resize: (by: 1 | -1) => void;
  undo: () => void;
  redo: () => void;
  clear: () => void;
  /** Close the polygon; false where none is open. */
  closePolygon: () => boolean;
  /** Do what a key asks for; false where it means nothing here. */
  key: (key: string) => boolean;
}

/** Red, green, blue and opacity of what is marked: a cyan that no map uses. */
const INK = [0, 229, 255, 150] as const;
/** Least way between two points of a stroke, in pixels of the picture. */
const STEP_PX = 0.5;
const DOUBLE_MS = 400;
/** How near a click must be to a corner to mean it, as a share of the picture. */
const NEAR = 0.012;

/** Draws on the picture of a case, in the picture's own pixels. */
export function useDrawing(one: QueuedCase, correction: Correction): DrawingTools {
  const { width, height } = one.image;
  const [chosen, setTool] = useState<Tool>("brush");
  const [chosenRadius, setRadius] = useState<number | null>(null);
  const [pending, setPending] = useState<{ caseId: string; points: Point[] }>({ caseId: "", points: [] });
  const corners = pending.caseId === one.case_id ? pending.points : NO_POINTS;
  const asArea = correction.draft?.asArea ?? false;
  // An area is a polygon, and no brush makes one.
  const tool = asArea ? "polygon" : chosen;
  const radius = chosenRadius ?? firstBrush(width, height);
  const { drawing, draw } = correction;
  const strokes = useMemo(() => (asArea ? lastPolygon(drawing.strokes) : drawing.strokes), [asArea, drawing.strokes]);

  const sheet = useRef<{ canvas: HTMLCanvasElement | null; mask: Mask | null; drawn: readonly Stroke[] | null }>({ canvas: null, mask: null, drawn: null });
  const cursor = useRef<SVGCircleElement>(null);
  const live = useRef<{ tool: "brush" | "eraser"; radius: number; points: Point[] } | null>(null);
  const lastCorner = useRef({ atMs: 0 });

  const redraw = useCallback(() => {
    const { canvas } = sheet.current;
    if (width === 0 || height === 0) return;
    if (sheet.current.drawn !== strokes || !sheet.current.mask) {
      sheet.current.mask = rasterised(strokes, width, height);
      sheet.current.drawn = strokes;
    }
    if (canvas) paint(canvas, sheet.current.mask, { left: 0, top: 0, right: width, bottom: height });
  }, [strokes, width, height]);
  useLayoutEffect(() => {
    if (sheet.current.drawn !== strokes) redraw();
  }, [redraw, strokes]);
  const canvas = useCallback(
    (element: HTMLCanvasElement | null) => {
      sheet.current.canvas = element;
      if (element) redraw();
    },
    [redraw],
  );

  const place = ({ x, y }: Spot): Point => [x * width, y * height];
  const extend = (point: Point) => {
    const stroke = live.current;
    const { mask, canvas: target } = sheet.current;
    if (!stroke || !mask) return;
    const last = stroke.points.at(-1) ?? point;
    if (stroke.points.length > 0 && Math.hypot(point[0] - last[0], point[1] - last[1]) < STEP_PX) return;
    stroke.points.push(point);
    const touched = mask.drawSegment(last, point, stroke.radius, stroke.tool === "brush" ? 1 : 0);
    if (target) paint(target, mask, touched);
  };
  const setCorners = (points: Point[]) => setPending({ caseId: one.case_id, points });
  const closePolygon = (): boolean => {
    if (corners.length === 0) return false;
    setCorners([]);
    if (corners.length >= 3) draw(drawn(drawing, { tool: "polygon", points: [...corners] }));
    return true;
  };
  const addCorner = (point: Point) => {
    const nowMs = performance.now();
    const near = (other: Point | undefined) =>
      other !== undefined && Math.hypot(point[0] - other[0], point[1] - other[1]) < NEAR * Math.max(width, height);
    const doubled = nowMs - lastCorner.current.atMs < DOUBLE_MS && near(corners.at(-1));
    lastCorner.current.atMs = nowMs;
    if (doubled || (corners.length >= 3 && near(corners[0]))) closePolygon();
    else setCorners([...corners, point]);
  };
  const hover = (spot: Spot | null) => {
    const ring = cursor.current;
    if (!ring) return;
    ring.style.visibility = spot && tool !== "polygon" ? "visible" : "hidden";
    if (!spot) return;
    ring.setAttribute("cx", String(spot.x * width));
    ring.setAttribute("cy", String(spot.y * height));
  };
  const pen: Pen = {
    down: (spot) => {
      if (tool === "polygon") return addCorner(place(spot));
      live.current = { tool, radius, points: [] };
      hover(spot);
      extend(place(spot));
    },
    move: (spots) => {
      for (const spot of spots) extend(place(spot));
      const last = spots.at(-1);
      if (last) hover(last);
    },
    up: () => {
      const stroke = live.current;
      live.current = null;
      if (!stroke || stroke.points.length === 0) return;
      const next = drawn(drawing, stroke);
      // It is on the mask already.
      sheet.current.drawn = next.strokes;
      draw(next);
    },
    cancel: () => {
      live.current = null;
      if (tool === "polygon") setCorners(corners.slice(0, -1));
      sheet.current.drawn = null;
      redraw();
    },
    hover,
  };
  const choose = (next: Tool) => {
    if (next !== "polygon") setCorners([]);
    setTool(next);
  };
  const resize = (by: 1 | -1) => setRadius(brushAfter(radius, by));
  const takeBack = () => (corners.length > 0 ? setCorners(corners.slice(0, -1)) : draw(undo(drawing)));
  const clear = () => {
    setCorners([]);
    draw(cleared(drawing));
  };
  const key = (pressed: string): boolean => {
    if (pressed === "b") choose("brush");
    else if (pressed === "e") choose("eraser");
    else if (pressed === "p") choose("polygon");
    else if (pressed === "[") resize(-1);
    else if (pressed === "]") resize(1);
    else if (pressed === "x") clear();
    else return false;
    return true;
  };
  return {
    width,
    height,
    tool,
    radius,
    strokes,
    corners,
    pen,
    canvas,
    cursor,
    choose,
    resize,
    undo: takeBack,
    redo: () => draw(redo(drawing)),
    clear,
    closePolygon,
    key,
  };
}

const NO_POINTS: readonly Point[] = [];

function lastPolygon(strokes: readonly Stroke[]): readonly Stroke[] {
  const wiped = strokes.findLastIndex((one) => one.tool === "clear");
  const polygon = strokes.slice(wiped + 1).findLast((one) => one.tool === "polygon");
  return polygon ? [polygon] : [];
}

function paint(canvas: HTMLCanvasElement, mask: Mask, box: Box): void {
  const [columns, rows] = [box.right - box.left, box.bottom - box.top];
  const context = canvas.getContext("2d");
  if (!context || columns <= 0 || rows <= 0) return;
  const piece = context.createImageData(columns, rows);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (mask.values[(box.top + y) * mask.width + box.left + x] === 1) piece.data.set(INK, (y * columns + x) * 4);
    }
  }
  context.putImageData(piece, box.left, box.top);
}
