/** How a picture is shown in its box: enlarged `scale` times, its corner moved by `x`, `y` pixels. */
export interface View {
  scale: number;
  x: number;
  y: number;
}

export const FIT: View = { scale: 1, x: 0, y: 0 };
export const MAX_SCALE = 24;

/** Zoom by a factor and keep what lies under `(atX, atY)` where it is. */
export function zoomAt(view: View, factor: number, atX: number, atY: number, width: number, height: number): View {
  const scale = Math.min(MAX_SCALE, Math.max(1, view.scale * factor));
  const ratio = scale / view.scale;
  return kept({ scale, x: atX - (atX - view.x) * ratio, y: atY - (atY - view.y) * ratio }, width, height);
}

export function moved(view: View, byX: number, byY: number, width: number, height: number): View {
  return kept({ ...view, x: view.x + byX, y: view.y + byY }, width, height);
}

/** The picture's box never leaves the viewer empty at a side. */
function kept(view: View, width: number, height: number): View {
  const between = (value: number, least: number) => Math.min(0, Math.max(least, value)) + 0;
  return {
    scale: view.scale,
    x: between(view.x, width * (1 - view.scale)),
    y: between(view.y, height * (1 - view.scale)),
  };
}
