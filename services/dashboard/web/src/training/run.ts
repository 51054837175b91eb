import type { AnsweredPart, CandidateReport, Gate, Run, Stage, TrainedAlias } from "../api/training";

export const STAGES: Stage[] = [
  "waiting",
  "snapshot",
  "training",
  "evaluation",
  "registering",
  "shadow",
  "decision",
  "watch",
  "ended",
];

/** What became of a stage: behind, being done, where the run stopped, not needed, or not reached. */
export type StepState = "done" | "now" | "stopped" | "passed_over" | "ahead";

export interface Step {
  stage: Stage;
  state: StepState;
}

/** Every stage of a run with what became of it. */
export function stepsOf(run: Run): Step[] {
  const at = reached(run);
  const lives = run.outcome === "promoted" || run.outcome === "rolled_back";
  return STAGES.map((stage, index): Step => {
    if (stage === "ended") return { stage, state: run.outcome === null ? "ahead" : run.outcome === "promoted" ? "done" : "stopped" };
    if (index > at) return { stage, state: "ahead" };
    if (index < at || lives) return { stage, state: wasPassedOver(run, stage) ? "passed_over" : "done" };
    return { stage, state: run.stage === "ended" ? "stopped" : "now" };
  });
}

/** The stage that a run is in, or the last one that it left anything of. */
function reached(run: Run): number {
  if (run.stage !== "ended") return STAGES.indexOf(run.stage);
  if (run.outcome === "promoted" || run.outcome === "rolled_back") return STAGES.indexOf("watch");
  if (run.shadow !== null) return STAGES.indexOf("shadow");
  if (run.report !== null) return STAGES.indexOf("evaluation");
  if (run.attempts > 0 || run.epochs.length > 0) return STAGES.indexOf("training");
  return STAGES.indexOf(run.snapshot === null ? "waiting" : "snapshot");
}

function wasPassedOver(run: Run, stage: Stage): boolean {
  if (stage === "shadow") return run.shadow === null;
  if (stage === "decision") return run.promotes_itself;
  return stage === "watch" && run.watch === null;
}

export function hasEnded(run: Run): boolean {
  return run.stage === "ended";
}

/** Ends without consequence: nothing of it is live yet. */
export function canCancel(run: Run): boolean {
  return run.stage !== "ended" && run.stage !== "watch";
}

/** What no second try would change. */
const FINAL_REASONS = ["nothing_to_learn", "no_live_version", "exists", "retired"];

/** It failed, or was cancelled before its candidate was measured; whether it goes on in truth the trainer knows. */
export function canResume(run: Run): boolean {
  if (FINAL_REASONS.includes(run.reason)) return false;
  return run.outcome === "failed" || (run.outcome === "cancelled" && run.report === null);
}

/** Its version waits for an engineer, or exists without ever having been let to decide. */
export function canPromote(run: Run, alias: TrainedAlias | null): boolean {
  if (run.candidate_version === 0 || run.candidate_version === alias?.live_version) return false;
  if (run.stage === "decision") return true;
  return run.stage === "ended" && (run.outcome === "refused" || run.outcome === "cancelled") && run.report !== null;
}

/** Only what speaks against it needs a reason. */
export function needsReason(run: Run): boolean {
  return run.outcome === "refused" || broken(run.report).length > 0;
}

/** Its version decides, and another one did before. */
export function canRollBack(run: Run, alias: TrainedAlias | null): boolean {
  return (
    alias !== null &&
    alias.previous_version > 0 &&
    run.candidate_version > 0 &&
    run.candidate_version === alias.live_version &&
    (run.stage === "watch" || run.outcome === "promoted")
  );
}

/** Whether the run's version went live and does not decide any more: it was rolled back, or a newer one came. */
export function isReplaced(run: Run, alias: TrainedAlias): boolean {
  return run.outcome === "promoted" && alias.live_version > 0 && alias.live_version !== run.candidate_version;
}

export function broken(report: CandidateReport | null): Gate[] {
  return report?.gates.filter((gate) => gate.state === "broken") ?? [];
}

/** Those that do not come out as people said. */
export function missed(report: CandidateReport): AnsweredPart[] {
  return report.answered.filter((part) => !part.honoured);
}

/** In what unit the figures of a gate are told. */
export function unitOf(gate: string): "figure" | "parts" | "share" | "milliseconds" {
  if (gate === "escapes") return "parts";
  if (gate === "calibration") return "share";
  return gate === "latency" ? "milliseconds" : "figure";
}

/** Whether the candidate's figure must be at least the bound, or at most. */
export function isFloor(gate: string): boolean {
  return gate === "mcc" || gate === "explanation";
}

/** Newer runs sort later. */
export function newestFirst(left: Run, right: Run): number {
  return left.run_id < right.run_id ? 1 : left.run_id > right.run_id ? -1 : 0;
}

/** The runs that are shown large: what goes on, else the newest. */
export function shownLarge(runs: readonly Run[]): Run[] {
  const going = runs.filter((run) => !hasEnded(run));
  return going.length > 0 ? going : runs.slice(0, 1);
}
