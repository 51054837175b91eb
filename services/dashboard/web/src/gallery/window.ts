import { useEffect, useLayoutEffect, useState, type RefObject } from "react";

/** As the style sheet has it. */
export const TILE_PX = 172;
export const GAP_PX = 12;
/** Of a tile, what is below its square picture: the foot and the edges. */
export const FOOT_PX = 52;
/** Rows that are drawn before they come on screen. */
const AHEAD_ROWS = 3;

export interface Shape {
  columns: number;
  /** From the top of one row to the top of the next. */
  rowPx: number;
}

export interface Rows {
  /** The first row that is drawn, and the one after the last. */
  from: number;
  to: number;
}

/** How tiles lie in a width. */
export function shapeOf(widthPx: number): Shape {
  const columns = Math.max(1, Math.floor((widthPx + GAP_PX) / (TILE_PX + GAP_PX)));
  const tilePx = (widthPx - GAP_PX * (columns - 1)) / columns;
  return { columns, rowPx: tilePx + FOOT_PX + GAP_PX };
}

/** Which rows are on screen or close to it. */
export function rowsAt(shape: Shape, count: number, topPx: number, heightPx: number): Rows {
  const rows = Math.ceil(count / shape.columns);
  const first = Math.floor(-topPx / shape.rowPx) - AHEAD_ROWS;
  const last = Math.ceil((heightPx - topPx) / shape.rowPx) + AHEAD_ROWS;
  const from = Math.min(Math.max(0, first), Math.max(0, rows - 1));
  return { from, to: Math.min(rows, Math.max(from + 1, last)) };
}

/** The rows to draw of a grid, however far it reaches: what is far from the screen is only room. */
export function useRows(grid: RefObject<HTMLElement | null>, count: number): { shape: Shape; rows: Rows; show: (at: number) => void } {
  const [widthPx, setWidth] = useState(1_200);
  const shape = shapeOf(widthPx);
  const [rows, setRows] = useState<Rows>({ from: 0, to: 8 });
  const { columns, rowPx } = shape;
  useLayoutEffect(() => {
    const element = grid.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [grid]);
  useEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      const top = grid.current?.getBoundingClientRect().top ?? 0;
      const next = rowsAt({ columns, rowPx }, count, top, innerHeight);
      setRows((now) => (now.from === next.from && now.to === next.to ? now : next));
    };
    const onMove = () => {
      if (frame === 0) frame = requestAnimationFrame(look);
    };
    onMove();
    addEventListener("scroll", onMove, { passive: true });
    addEventListener("resize", onMove);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", onMove);
      removeEventListener("resize", onMove);
    };
  }, [grid, count, columns, rowPx]);
  /** Bring a tile on screen that may not be drawn. */
  const show = (at: number) => {
    const top = (grid.current?.getBoundingClientRect().top ?? 0) + Math.floor(at / columns) * rowPx;
    if (top < 80 || top + rowPx > innerHeight) scrollBy({ top: top - innerHeight / 3 });
  };
  return { shape, rows, show };
}
