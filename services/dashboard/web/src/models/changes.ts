import type { Change, ComparedPart, Correction, Outcome, PartCounts } from "../api/models";

/** What a part can be picked by. */
export type Pick = "all" | Outcome | "left_out" | "waiting";

/** What matters most first: what became worse, then what is not yet right. */
export const PICKS: Exclude<Pick, "all">[] = [
  "now_wrong",
  "still_wrong",
  "asks",
  "now_right",
  "still_right",
  "waiting",
  "left_out",
];

/** How many were compared, and how many of them come out right. */
export function rightOf(counts: PartCounts): { right: number; compared: number } {
  const right = counts.now_right + counts.still_right;
  return { right, compared: right + counts.asks + counts.still_wrong + counts.now_wrong };
}

export function pickOf(part: ComparedPart): Exclude<Pick, "all"> {
  if (part.left_out !== "") return "left_out";
  return part.outcome ?? "waiting";
}

export function picked(parts: readonly ComparedPart[], pick: Pick): ComparedPart[] {
  return parts.filter((part) => pick === "all" || pickOf(part) === pick);
}

/** Of the parts that are compared, those that were right before. */
export function rightBefore(parts: readonly ComparedPart[]): number {
  return parts.filter((part) => part.after !== null && part.before.verdict === part.settled).length;
}

/** The correction that a person may take back: their own where they have one, else the newest that stands. */
export function mineFirst(part: ComparedPart, reviewer: string | null): Correction | null {
  const standing = part.corrections.filter((one) => !one.withdrawn);
  return standing.find((one) => one.reviewer === reviewer) ?? standing.at(-1) ?? null;
}

/** Which change was looked at last, as one text that grows with every change. */
export function markOf(change: Change): string {
  return String(change.at_ms);
}

/** Whether a change is newer than what was looked at last. */
export function isNews(change: Change | undefined, seen: string | null): boolean {
  return change !== undefined && change.settled > 0 && (seen === null || change.at_ms > Number(seen));
}

/** Whether an estimate is a count: nothing had to be estimated. */
export function isExact({ low, high }: { low: number; high: number }): boolean {
  return low === high;
}
