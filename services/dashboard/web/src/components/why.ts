import type { Inspection } from "../api/types";
import type { Translate } from "../i18n";
import type { Formats } from "../i18n/format";

/** The verdict in plain words. It repeats what the detector decided and decides nothing itself. */
export function why(part: Inspection, t: Translate, format: Formats): string {
  if (part.reason === "unreadable_image") return t("why.unreadable");
  if (part.reason === "deadline_missed") return t("why.deadline");
  const said = (value: number | null) => (value === null ? "–" : format.score(value));
  const values = {
    score: said(part.score),
    low: said(part.review_low),
    high: said(part.review_high),
    threshold: said(part.threshold),
  };
  if (part.verdict === "review" && part.reason === "unsure") return t("why.review.unsure", values);
  if (part.reason === "disagreement") return t("why.review.disagreement", { ...values, percent: against(part, format) });
  if (part.verdict === "fail") return t("why.fail.score", values);
  if (part.verdict === "pass") return t("why.pass.score", values);
  return t("why.other", values);
}

/** How the detectors of a panel are split, where they are and the reason of the verdict does not say so already. */
export function split(part: Inspection, t: Translate, format: Formats): string | null {
  if (part.disagreement === 0 || part.reason === "disagreement") return null;
  return t("why.disagreement", { percent: against(part, format) });
}

/** The minority's share of the detectors. */
function against(part: Inspection, format: Formats): string {
  return format.percentWhole(part.disagreement / 2);
}
