import type { Review, Verdict } from "../../api/types";
import type { Translate } from "../../i18n";
import { saidIn, type Said } from "../../review/answers";
import type { Draft } from "../../review/drafts";

/** An answer as its button says it. */
export function answerLabel(said: Said | "skip", verdict: Verdict, t: Translate): string {
  if (said === "skip") return t("review.skip");
  if (said === "unsure") return t("review.say.unsure");
  return t(`review.say.${verdict}.${said}`);
}

/** A corrected answer with the class that goes with it, so that nobody sends one unseen. */
export function sentLabel({ said, defectClass }: Draft, verdict: Verdict, t: Translate): string {
  const label = answerLabel(said, verdict, t);
  return defectClass.trim() === "" ? label : `${label} · ${defectClass.trim().replaceAll("_", " ")}`;
}

/** An answer as the record has it; as its button said it where the model's verdict is known. */
export function recordLabel(review: Review, verdict: Verdict | null, t: Translate): string {
  const found = saidIn(review);
  if (!found) return t("review.skip");
  if (verdict !== null) return answerLabel(found.said, verdict, t);
  if (found.said === "unsure") return t("review.say.unsure");
  if (found.said === "elsewhere") return t("review.said.elsewhere");
  if (found.settled === null) return t("review.said.right");
  if (found.asked) return t(found.settled === "pass" ? "review.say.review.right" : "review.say.review.wrong");
  return t(found.settled === "pass" ? "review.say.fail.wrong" : "review.say.pass.wrong");
}
