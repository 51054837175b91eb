import type { Verdict } from "../api/types";
import type { Said } from "./answers";
import type { Draft } from "./drafts";

/** One thing that this person said in this sitting, so that it can be taken back. */
export interface Turn {
  reviewId: string;
  caseId: string;
  partId: string;
  product: string;
  verdict: Verdict;
  said: Said | "skip";
  atMs: number;
  /** The class that this person gave the defect; empty where they gave none. */
  defectClass: string;
  /** What was drawn and written with it. */
  draft: Draft | null;
}

const KEY = "sightline.review.session";
const NO_CLASS = { product: "", defectClass: "" };
const TURNS_KEPT = 500;
const WINDOW_MS = 5 * 60_000;

/** The turns of this tab, also after a reload. */
export function readTurns(): Turn[] {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    // An earlier release kept neither product nor class.
    return Array.isArray(found) ? (found as Turn[]).map((turn) => ({ ...NO_CLASS, ...turn })) : [];
  } catch {
    return [];
  }
}

export function storeTurns(turns: readonly Turn[]): void {
  try {
    // A drawing is kept for as long as the page is open; the record has it anyway.
    sessionStorage.setItem(KEY, JSON.stringify(turns.slice(-TURNS_KEPT).map((turn) => ({ ...turn, draft: null }))));
  } catch {
    // The turns then last until the page is closed.
  }
}

export function answeredIn(turns: readonly Turn[]): number {
  return turns.filter((one) => one.said !== "skip").length;
}

/** Answers a minute over the last five, or since the first of them; null while there are too few to say. */
export function answersPerMinute(turns: readonly Turn[], nowMs: number): number | null {
  const recent = turns.filter((one) => one.said !== "skip" && nowMs - one.atMs < WINDOW_MS);
  const first = recent[0];
  if (!first || recent.length < 3) return null;
  return recent.length / Math.max(0.5, (nowMs - first.atMs) / 60_000);
}
