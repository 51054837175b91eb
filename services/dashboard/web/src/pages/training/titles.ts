import type { Run } from "../../api/training";
import type { Translate } from "../../i18n";

/** Which version became which. */
export function titleOf(run: Run, t: Translate): string {
  const { alias, live_version: live, candidate_version: candidate } = run;
  if (live === 0) {
    return candidate === 0 ? t("training.run.first.open", { alias }) : t("training.run.first", { alias, candidate });
  }
  return candidate === 0 ? t("training.run.open", { alias, live }) : t("training.run", { alias, live, candidate });
}

/** How it ended, in a sentence; null while it goes on. */
export function endOf(run: Run, t: Translate): string | null {
  const { outcome, live_version: live, candidate_version: version } = run;
  if (outcome === null) return null;
  if (outcome === "refused") return t(live === 0 ? "training.ended.refused.first" : "training.ended.refused", { live });
  return t(`training.ended.${outcome}`, { version });
}

export function begunBy(run: Run, time: string, t: Translate): string {
  return t(`training.by.${run.trigger}`, { time, actor: run.actor });
}
