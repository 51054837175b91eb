import type { Run } from "../api/training";
import type { Problem } from "../api/types";
import { hasMessage, type MessageKey, type Translate } from "../i18n";

/** Why, in plain words; a reason that this release has no words for is told as the trainer tells it. */
export function reasonText({ reason, detail }: { reason: string; detail: string }, t: Translate): string {
  const key = `training.reason.${reason}`;
  if (reason !== "" && hasMessage(key)) return t(key);
  return phraseText(detail || reason, t);
}

/** What the trainer says beyond the reason; empty where that says all. */
export function detailText({ reason, detail }: { reason: string; detail: string }, t: Translate): string {
  const said = phraseText(detail, t);
  return reasonText({ reason, detail }, t) === said ? "" : said;
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

/** What the trainer says that it does or has done, by the phrases of this release. */
const PHRASES: readonly (readonly [RegExp, MessageKey])[] = [
  [/^reading the live version$/, "training.doing.reading_live"],
  [/^reading (?<count>\d+) answered pictures$/, "training.doing.reading"],
  [/^refuting and embedding (?<count>\d+) answered pictures$/, "training.doing.refuting"],
  [/^reading the pictures of the base set$/, "training.doing.base"],
  [/^fitting the last layer$/, "training.doing.fitting"],
  [/^epoch (?<count>\d+) of at most (?<of>\d+)$/, "training.doing.epoch"],
  [/^calibrating$/, "training.doing.calibrating"],
  [/^looking where both versions look$/, "training.doing.looking"],
  [/^measuring the time of single answers$/, "training.doing.timing"],
  [/^asking about the answered pictures$/, "training.doing.asking"],
  [/^putting the version together$/, "training.doing.version"],
  [/^done$/, "training.doing.done"],
  [/^reads what people said$/, "training.doing.answers"],
  [/^waits for the run of another alias$/, "training.doing.other"],
  [/^stores version (?<count>\d+)$/, "training.doing.stores"],
  [/^(?<count>\d+) of (?<of>\d+) live frames$/, "training.doing.live_frames"],
  [/^(?<count>\d+) frames$/, "training.doing.frames"],
  [/^(?<count>\d+) frames were watched$/, "training.doing.watched"],
  [/^waits for an engineer$/, "training.doing.engineer"],
  [/^brings version (?<count>\d+) back$/, "training.doing.back"],
  [/^waits: (?<why>.*)$/s, "training.doing.waits"],
];

/** Such a phrase in the page's language; one that this release does not know is told as the trainer tells it. */
export function phraseText(phrase: string, t: Translate): string {
  for (const [known, key] of PHRASES) {
    const found = known.exec(phrase);
    if (found !== null) return t(key, { ...found.groups });
  }
  return phrase;
}
