import type { StageTimings } from "../../api/types";

export const STAGES = ["queue_ms", "fetch_ms", "decode_ms", "infer_ms", "other_ms"] as const;
export type Stage = (typeof STAGES)[number];

/** Where the time from capture to verdict went; what no stage claims is `other_ms`. Empty when nothing was measured. */
export function stagesOf(timings: StageTimings): { stage: Stage; ms: number }[] {
  const known = (["queue_ms", "fetch_ms", "decode_ms", "infer_ms"] as const).map((stage) => ({
    stage,
    ms: Math.max(0, timings[stage] ?? 0),
  }));
  const claimed = known.reduce((sum, { ms }) => sum + ms, 0);
  const other = { stage: "other_ms" as const, ms: Math.max(0, (timings.total_ms ?? 0) - claimed) };
  // Rounding leaves crumbs that are no stage of their own.
  return [...known, other].filter(({ stage, ms }) => ms > (stage === "other_ms" ? 0.5 : 0));
}
