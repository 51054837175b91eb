import type { Run } from "../api/training";
import type { Problem } from "../api/types";
import { hasMessage, type Translate } from "../i18n";

/** Why, in plain words; a reason that this release has no words for is told as the trainer tells it. */
export function reasonText({ reason, detail }: { reason: string; detail: string }, t: Translate): string {
  const key = `training.reason.${reason}`;
  if (reason !== "" && hasMessage(key)) return t(key);
  return detail || reason;
}

/** What the trainer says beyond the reason; empty where that says all. */
export function detailText({ reason, detail }: { reason: string; detail: string }, t: Translate): string {
  return reasonText({ reason, detail }, t) === detail ? "" : detail;
}

/** How a run ended, or that it goes on. */
export function outcomeText(run: Run, t: Translate): string {
  if (run.outcome === null) return t(`training.stage.${run.stage}`);
  return t(`training.outcome.${run.outcome}`);
}

/** Why something that a person asked for was not done. */
export function problemText(problem: Problem, t: Translate): string {
  const key = `training.problem.${problem.reason}`;
  return hasMessage(key) ? t(key) : problem.message;
}
