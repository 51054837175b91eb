import type { Explanation } from "../api/types";
import { hasMessage, type Translate } from "../i18n";
import type { Formats } from "../i18n/format";
import { agreementOf, findingOf, spotOf } from "./maps";

export function methodName(method: string, t: Translate): string {
  const key = `method.${method}`;
  return hasMessage(key) ? t(key) : method;
}

/** What the map shows, in one sentence. It repeats what was measured and judges nothing itself. */
export function found(explanation: Explanation, t: Translate, format: Formats): string {
  const finding = findingOf(explanation);
  if (finding === "none" || explanation.hottest === null) return t("found.none");
  if (finding === "calm") return t("found.calm");
  const spot = t(`spot.${spotOf(explanation.hottest)}`);
  if (finding === "uncalibrated") return t("found.uncalibrated", { spot });
  const share = explanation.coloured_share ?? 0;
  return t("found.spot", { spot, share: share < 0.01 ? t("found.little") : format.percentWhole(share) });
}

/** Whether the first two maps go together; empty with fewer than two. */
export function together(explanations: Explanation[], overlap: number | null, t: Translate, format: Formats): string {
  const [first, second] = explanations.filter((one) => one.has_map);
  if (!first || !second || overlap === null) return "";
  const names = { first: methodName(first.method, t), second: methodName(second.method, t) };
  return t(`agreement.${agreementOf(overlap)}`, { ...names, overlap: format.percentWhole(overlap) });
}

/** Why there is no map, in words; what the service said where the reason is not known here. */
export function whyNoMap(problem: { reason: string; detail: string }, t: Translate): string {
  const key = `no_map.${problem.reason}`;
  if (hasMessage(key)) return t(key);
  if (problem.reason.startsWith("image_")) return t("no_map.image");
  return problem.detail || t("no_map.other");
}
