import type { Inspection } from "../../api/types";
import type { Translate } from "../../i18n";
import type { Formats } from "../../i18n/format";

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
  if (part.verdict === "fail") return t("why.fail.score", values);
  if (part.verdict === "pass") return t("why.pass.score", values);
  return t("why.other", values);
}
