import type { Answer, Decided, Review, Verdict } from "../api/types";

/** What a person can say of a case, as the keys `1`, `2`, `3` and `0` name it. */
export type Said = "right" | "wrong" | "elsewhere" | "unsure";

export const SAID: Said[] = ["right", "wrong", "elsewhere", "unsure"];

/** The two questions, answered, and what follows from them. */
export interface Answers {
  verdict_right: Answer;
  reason_right: Answer;
  corrected_verdict: Decided | null;
}

/**
 * What an answer says on record.
 *
 * Of a part in review the model asked, so its verdict was right whatever the person decides; there `right` stands for
 * a good part, `wrong` for a defective one.
 *
 * @param mapSeen Whether a map was on screen: only then is its reason asked about.
 */
export function answersOf(said: Said, verdict: Verdict, mapSeen: boolean): Answers {
  const reason = mapSeen ? "yes" : "not_asked";
  if (said === "unsure") return { verdict_right: "not_sure", reason_right: "not_asked", corrected_verdict: null };
  if (said === "elsewhere") {
    return { verdict_right: "yes", reason_right: "no", corrected_verdict: verdict === "review" ? "fail" : null };
  }
  if (verdict === "review") {
    if (said === "right") return { verdict_right: "yes", reason_right: "not_asked", corrected_verdict: "pass" };
    return { verdict_right: "yes", reason_right: reason, corrected_verdict: "fail" };
  }
  if (said === "right") return { verdict_right: "yes", reason_right: reason, corrected_verdict: null };
  return { verdict_right: "no", reason_right: "not_asked", corrected_verdict: verdict === "fail" ? "pass" : "fail" };
}

/** What the part is by an answer; null where the person was not sure. */
export function settledBy(said: Said, verdict: Verdict): Decided | null {
  const { verdict_right, corrected_verdict } = answersOf(said, verdict, false);
  if (corrected_verdict !== null) return corrected_verdict;
  return verdict_right === "yes" && verdict !== "review" ? verdict : null;
}

/** Whether an answer can be given: where no map was seen, none can point elsewhere. */
export function canSay(said: Said, mapSeen: boolean): boolean {
  return said !== "elsewhere" || mapSeen;
}

/** Whether an answer leaves something to be shown: where the defect is that the model did not see there. */
export function wantsCorrection(said: Said, verdict: Verdict): boolean {
  if (settledBy(said, verdict) !== "fail") return false;
  return said === "elsewhere" || said === "wrong";
}

/** What was said, back from the record; null for what is no answer. */
export function saidIn(review: Review): { said: Said; settled: Decided | null; asked: boolean } | null {
  if (review.action !== "answer") return null;
  const { verdict_right: right, reason_right: reason, corrected_verdict: corrected } = review;
  if (right === "not_sure") return { said: "unsure", settled: null, asked: false };
  if (right === "no") return { said: "wrong", settled: corrected, asked: false };
  if (reason === "no") return { said: "elsewhere", settled: corrected, asked: corrected !== null };
  if (corrected !== null) return { said: corrected === "pass" ? "right" : "wrong", settled: corrected, asked: true };
  return { said: "right", settled: null, asked: false };
}

/** The answers that count: neither taken back nor replaced. What an undone answer had replaced stands again. */
export function standing(reviews: readonly Review[]): Review[] {
  const undone = new Set(reviews.filter((one) => one.action === "undo").map((one) => one.supersedes));
  const live = reviews.filter((one) => one.action === "answer" && !undone.has(one.review_id));
  const replaced = new Set(live.map((one) => one.supersedes));
  return live.filter((one) => !replaced.has(one.review_id));
}

export type Command =
  | { kind: "say"; said: Said }
  | { kind: "skip" | "undo" | "previous" | "next" | "toggle_map" | "answers" | "compare" };

const KEYS: Record<string, Command> = {
  "1": { kind: "say", said: "right" },
  "2": { kind: "say", said: "wrong" },
  "3": { kind: "say", said: "elsewhere" },
  "0": { kind: "say", said: "unsure" },
  n: { kind: "say", said: "unsure" },
  s: { kind: "skip" },
  z: { kind: "undo" },
  l: { kind: "answers" },
  c: { kind: "compare" },
  " ": { kind: "toggle_map" },
  ArrowLeft: { kind: "previous" },
  ArrowRight: { kind: "next" },
};

/** What a key asks for; null for keys that mean nothing here. */
export function commandOf(key: string): Command | null {
  return KEYS[key.length === 1 ? key.toLowerCase() : key] ?? null;
}

/** A UUID; also on a plain HTTP address, where browsers keep `randomUUID` to themselves. */
export function newId(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
