/** A round number at or above `value`, for the top of an axis. */
export function niceTop(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((one) => one * power >= value * 0.999) ?? 10;
  return step * power;
}

export interface Spot {
  x: number;
  y: number;
}

/** Stretches of a curve without gaps; a null is a gap. */
export function stretches(values: (Spot | null)[]): Spot[][] {
  const result: Spot[][] = [];
  let open: Spot[] | null = null;
  for (const value of values) {
    if (value === null) {
      open = null;
    } else if (open) {
      open.push(value);
    } else {
      open = [value];
      result.push(open);
    }
  }
  return result;
}

export function linePath(spots: Spot[]): string {
  return spots.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

export function areaPath(spots: Spot[], floor: number): string {
  const first = spots[0];
  const last = spots.at(-1);
  if (!first || !last) return "";
  return `${linePath(spots)}L${last.x.toFixed(1)} ${floor}L${first.x.toFixed(1)} ${floor}Z`;
}
