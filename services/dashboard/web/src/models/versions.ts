import type { Alias, AliasState, Metric, ModelVersion } from "../api/models";

export type Role = "live" | "previous" | "shadow" | "candidate" | "retired";

export function roleOf(alias: Alias, version: number): Role {
  if (version === alias.live_version) return "live";
  if (version === alias.previous_version) return "previous";
  if (version === alias.shadow_version) return "shadow";
  return alias.candidate_versions.includes(version) ? "candidate" : "retired";
}

/** Every version of an alias that is known, the newest first. */
export function versionsOf(alias: Alias): number[] {
  const known = [alias.live_version, alias.previous_version, alias.shadow_version, ...alias.candidate_versions];
  return [...new Set([...known, ...(alias.stored_versions ?? [])])].filter((one) => one > 0).sort((a, b) => b - a);
}

/** The change that made the live version live; null where the topic no longer has it. */
export function madeLive(alias: Alias): AliasState | null {
  return (
    alias.history.find(
      (one) => (one.action === "promote" || one.action === "roll_back") && one.live_version === alias.live_version,
    ) ?? null
  );
}

/** The versions that are compared first: what decides and what decided before, or the two newest. */
export function firstPair(alias: Alias): [number, number] | null {
  const all = versionsOf(alias);
  const left = alias.previous_version || all.find((one) => one !== alias.live_version);
  const right = alias.live_version || all[0];
  return left && right && left !== right ? [left, right] : null;
}

/** Figures that two versions both have, by name, in a fixed order: what is known well first. */
export function inCommon(left: ModelVersion, right: ModelVersion): { name: string; left: Metric; right: Metric }[] {
  return Object.keys(left.metrics)
    .sort((a, b) => place(a) - place(b) || a.localeCompare(b))
    .flatMap((name) => {
      const [one, other] = [left.metrics[name], right.metrics[name]];
      return one && other ? [{ name, left: one, right: other }] : [];
    });
}

const ORDER = ["escape_rate", "false_reject_rate", "review_rate_defective", "review_rate_good", "good_pass_rate", "auroc"];

function place(name: string): number {
  const at = ORDER.indexOf(name);
  return at < 0 ? ORDER.length : at;
}

/** Rates are shown in percent, other figures as numbers. */
export function isRate(name: string): boolean {
  return name.endsWith("_rate") || name.includes("_rate_") || name === "accuracy";
}

/** What last changed an alias: the version it was about, as far as the two states tell. */
export function addedIn(state: AliasState, before: AliasState | undefined): number | null {
  const known = before?.candidate_versions ?? [];
  return state.candidate_versions.find((one) => !known.includes(one)) ?? null;
}
