import type { QueuedCase } from "../api/types";
import type { Said } from "./answers";
import type { Turn } from "./session";

/** The keys that name a class: none of them answers a case, so that an answer typed on never names one by chance. */
export const CLASS_KEYS = ["4", "5", "6", "7", "8", "9"] as const;

/**
 * Classes of this product to choose from with one press, those used last first. None of them is chosen by itself: what stands on record
 * as a person's word must be theirs.
 *
 * @param turns What was said in this sitting, the oldest first.
 * @param cases What waits: classes that the model gives now are at hand before anybody has used one.
 */
export function suggestedClasses(one: QueuedCase, said: Said, turns: readonly Turn[], cases: readonly QueuedCase[]): string[] {
  const { verdict, product, defect_class: ofModel } = one.inspection;
  // Whoever says that a verdict is wrong says so of the class that came with it.
  const disputed = said === "wrong" && verdict !== "review";
  const names = [
    ...turns.filter((turn) => turn.product === product).map((turn) => turn.defectClass).reverse(),
    ...(disputed ? [] : [ofModel]),
    ...cases.filter(({ inspection: other }) => other.product === product && other.verdict !== "pass").map((other) => other.inspection.defect_class),
  ];
  return [...new Set(names.filter((name) => name !== ""))].slice(0, CLASS_KEYS.length);
}
