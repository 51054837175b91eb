import type { CaseState, Decided, Problem, QueuedCase, Verdict } from "../api/types";

export type BulkAction = "good" | "defective" | "skip" | "undo";

/** One of many answers, with an id of its own: the same id again is the same answer. */
export interface BulkAnswer {
  review_id: string;
  case_id: string;
  verdict?: Verdict;
}

export interface BulkResult {
  case_id: string;
  review_id: string;
  ok: boolean;
  /** Of those that were taken. */
  state?: CaseState;
  /** Of those that were not: whether the same may be taken later. */
  retriable?: boolean;
  error?: Problem;
}

/** What became of many answers. */
export interface BulkOutcome {
  action: BulkAction;
  taken: BulkResult[];
  /** Not taken, and never will be. */
  refused: BulkResult[];
  /** Not taken for now. */
  waiting: BulkAnswer[];
  /** Why the first of those that wait does. */
  problem: Problem | null;
}

/** Answers of one request: as many as are surely taken within its time. */
export const BATCH = 50;

export function bulkAnswers(cases: readonly QueuedCase[], action: BulkAction, newId: () => string): BulkAnswer[] {
  return cases.map((one) => ({
    review_id: newId(),
    case_id: one.case_id,
    ...(action === "good" || action === "defective" ? { verdict: one.inspection.verdict } : {}),
  }));
}

export function batches<T>(all: readonly T[], size: number): T[][] {
  const found: T[][] = [];
  for (let start = 0; start < all.length; start += size) found.push(all.slice(start, start + size));
  return found;
}

/**
 * Send answers in batches, one after the other; the first batch that cannot be sent keeps the rest back.
 *
 * @param send Sends one batch; throws a problem where it cannot.
 * @param onProgress Told how many have been dealt with.
 */
export async function sendAll(
  action: BulkAction,
  answers: readonly BulkAnswer[],
  send: (some: BulkAnswer[]) => Promise<BulkResult[]>,
  problemOf: (error: unknown) => Problem,
  onProgress: (done: number) => void = () => undefined,
): Promise<BulkOutcome> {
  const outcome: BulkOutcome = { action, taken: [], refused: [], waiting: [], problem: null };
  let done = 0;
  for (const some of batches(answers, BATCH)) {
    if (outcome.problem !== null) {
      outcome.waiting.push(...some);
      continue;
    }
    try {
      const byId = new Map((await send(some)).map((result) => [result.review_id, result]));
      for (const answer of some) {
        const result = byId.get(answer.review_id);
        if (result?.ok) outcome.taken.push(result);
        else if (result && !result.retriable) outcome.refused.push(result);
        else {
          outcome.waiting.push(answer);
          outcome.problem ??= result?.error ?? { reason: "offline", message: "" };
        }
      }
    } catch (error) {
      outcome.problem = problemOf(error);
      outcome.waiting.push(...some);
    }
    done += some.length;
    onProgress(done);
  }
  return outcome;
}

/** A case after an answer to it was taken, as far as that is known without asking again. */
export function answered(one: QueuedCase, action: BulkAction, state: CaseState): QueuedCase {
  if (action === "skip") return one;
  const says: Record<BulkAction, Decided | null> = { good: "pass", defective: "fail", skip: null, undo: null };
  // What stands after an undo, if anything does, only the server knows.
  const settled = state === "reviewed" ? says[action] : null;
  return { ...one, state, settled_verdict: settled };
}
