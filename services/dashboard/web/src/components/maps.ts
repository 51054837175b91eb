import type { Explained, Explanation, Grade, Verdict } from "../api/types";

/** No map lies over the picture. */
export const NO_MAP = "none";

/** What a person chose to see; null until then. */
export type Choice = string | null;

/** A map that can be laid over the picture. */
export interface ShownMap {
  explanation: Explanation;
  url: string;
  /** Made on request, by this browser; it is kept nowhere. */
  requested: boolean;
}

/**
 * Which map lies over the picture. What was chosen stays from part to part where the part has it. Until somebody
 * chooses, a part that passed shows none, and a map that is not to be gone by (D) is not shown by itself.
 */
export function shownMap(maps: ShownMap[], choice: Choice, verdict: Verdict): ShownMap | null {
  if (choice === NO_MAP) return null;
  const chosen = maps.find((one) => one.explanation.method === choice);
  if (chosen) return chosen;
  if (verdict === "pass") return null;
  return maps.find((one) => one.explanation.grade !== "D") ?? null;
}

/** The choice after this one, all maps in turn and then none. */
export function nextChoice(maps: ShownMap[], shown: ShownMap | null): string {
  const place = shown === null ? -1 : maps.indexOf(shown);
  return maps[place + 1]?.explanation.method ?? NO_MAP;
}

export type Spot = `${"top" | "middle" | "bottom"}_${"left" | "centre" | "right"}`;

/** Where in the picture a point lies, in ninths, as people point at things. */
export function spotOf(hottest: { x: number; y: number }): Spot {
  const third = (value: number) => Math.min(2, Math.max(0, Math.floor(value * 3)));
  const row = (["top", "middle", "bottom"] as const)[third(hottest.y)] ?? "middle";
  const column = (["left", "centre", "right"] as const)[third(hottest.x)] ?? "centre";
  return `${row}_${column}`;
}

export type Finding = "calm" | "spot" | "uncalibrated" | "none";

/** What a map found, before it is put into words. */
export function findingOf(explanation: Explanation): Finding {
  if (!explanation.has_map || explanation.hottest === null) return "none";
  if (!explanation.scale.calibrated || explanation.coloured_share === null) return "uncalibrated";
  return explanation.coloured_share === 0 ? "calm" : "spot";
}

/** How two methods go together; by the overlap (Dice) of their hottest tenths. Two that ignore the part overlap by .1. */
export function agreementOf(overlap: number): "same" | "partly" | "different" {
  if (overlap >= 0.5) return "same";
  return overlap >= 0.2 ? "partly" : "different";
}

export const GRADES: Grade[] = ["A", "B", "C", "D"];

/** Methods that a map can still be asked for with. */
export function otherMethods(explained: Explained, maps: ShownMap[]): string[] {
  const have = new Set(maps.filter((one) => !one.requested).map((one) => one.explanation.method));
  return explained.methods.filter((method) => !have.has(method));
}
