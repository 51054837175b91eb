// Training runs; services/dashboard/views_training.py says the same in Python.
import { BASE, post, request } from "./client";
import type { AliasState } from "./models";
import type { Verdict } from "./types";

export type Stage =
  | "waiting"
  | "snapshot"
  | "training"
  | "evaluation"
  | "registering"
  | "shadow"
  | "decision"
  | "watch"
  | "ended";

export type RunOutcome = "promoted" | "refused" | "cancelled" | "failed" | "rolled_back";
export type GateState = "kept" | "broken" | "not_measured";
export type Recipe = "head" | "finetune";
export type Loss = "ce" | "ceod";

export interface Gate {
  name: string;
  state: GateState;
  live: number | null;
  candidate: number | null;
  /** Null where none is set. */
  bound: number | null;
  low: number | null;
  high: number | null;
  parts: number;
}

export interface EpochLoss {
  epoch: number;
  train_loss: number | null;
  validation_loss: number | null;
  distance: number | null;
}

export interface Confusion {
  good: Record<Verdict, number>;
  defective: Record<Verdict, number>;
}

export interface FlippedPart {
  part_id: string;
  /** Of a live frame; null for a part of the hold-out. */
  frame_id: string | null;
  product: string;
  label: string;
  before: Verdict;
  after: Verdict;
  before_score: number | null;
  after_score: number | null;
}

export interface AnsweredPart {
  image_sha256: string;
  part_id: string;
  case_ids: string[];
  reviewers: string[];
  label: string;
  verdict: Verdict;
  score: number | null;
  verdict_corrected: boolean;
  verdict_right: boolean;
  region_corrected: boolean;
  region_right: boolean;
  honoured: boolean;
}

export interface CandidateReport {
  live_version: number;
  may_go_live: boolean;
  gates: Gate[];
  live: Confusion | null;
  candidate: Confusion;
  flips: FlippedPart[];
  answered: AnsweredPart[];
  train_parts: number;
  lessons: number;
  holdout_parts: number;
}

export interface Snapshot {
  digest: string;
  parts: number;
  good: number;
  reviews: number;
  contradicted: number;
  left_out: { reason: string; parts: number }[];
}

export interface ShadowFigures {
  frames: number;
  wanted: number;
  failed: number;
  agreed: number;
  live_flagged: number;
  candidate_flagged: number;
  flips: FlippedPart[];
}

export interface WatchFigures {
  frames: number;
  flagged: number;
  late: number;
  before_frames: number;
  before_flagged: number;
  before_late: number;
  until_ms: number;
}

export interface Run {
  run_id: string;
  alias: string;
  trigger: "reviews" | "schedule" | "hand";
  actor: string;
  note: string;
  requested_at_ms: number;
  stage_since_ms: number;
  ended_at_ms: number | null;
  stage: Stage;
  outcome: RunOutcome | null;
  reason: string;
  detail: string;
  share: number | null;
  doing: string;
  recipe: Recipe;
  loss: Loss;
  seed: string;
  live_version: number;
  candidate_version: number;
  snapshot: Snapshot | null;
  epochs: EpochLoss[];
  report: CandidateReport | null;
  shadow: ShadowFigures | null;
  watch: WatchFigures | null;
  authors: string[];
  promotes_itself: boolean;
  attempts: number;
}

export interface TrainedAlias extends AliasState {
  alias: string;
}

export interface TrainingOverview {
  /** Whether this dashboard knows a trainer. */
  offered: boolean;
  known: boolean;
  aliases: TrainedAlias[];
}

export interface RunPage {
  /** The newest first, without the parts of their reports. */
  runs: Run[];
  next: string | null;
  /** Answers since the last run, by alias. */
  new_reviews: Record<string, number>;
  /** Answers after which a run begins by itself; 0 for never. */
  reviews_wanted: number;
}

export interface Notice {
  kind: "refused" | "not_honoured";
  run_id: string;
  alias: string;
  ended_at_ms: number;
  reason: string;
  detail: string;
  candidate_version: number;
  /** Of the person's answered parts, those that do not come out as they said. */
  missed: number;
  mine: number;
}

const TRAINING = `${BASE}/training`;

function runUrl(runId: string): string {
  return `${TRAINING}/runs/${encodeURIComponent(runId)}`;
}

/** A stream of the run as it is now and after every change. */
export function progressUrl(runId: string): string {
  return `${runUrl(runId)}/progress`;
}

export async function fetchTraining(signal: AbortSignal): Promise<TrainingOverview> {
  return (await (await request(TRAINING, signal)).json()) as TrainingOverview;
}

export async function fetchRuns(search: { after: string | null; limit: number }, signal: AbortSignal): Promise<RunPage> {
  const query = new URLSearchParams({ limit: String(search.limit) });
  if (search.after !== null) query.set("after", search.after);
  return (await (await request(`${TRAINING}/runs?${query}`, signal)).json()) as RunPage;
}

export async function fetchRun(runId: string, signal: AbortSignal): Promise<Run> {
  return (await (await request(runUrl(runId), signal)).json()) as Run;
}

/** What a person should know of the latest runs that carry their answers. */
export async function fetchNotices(author: string, signal: AbortSignal): Promise<Notice[]> {
  const query = new URLSearchParams({ author });
  return ((await (await request(`${TRAINING}/notices?${query}`, signal)).json()) as { notices: Notice[] }).notices;
}

export async function startRun(order: {
  alias: string;
  actor: string;
  note: string;
  recipe: Recipe | "";
  loss: Loss | "";
}): Promise<Run> {
  return (await post(`${TRAINING}/runs`, order)) as Run;
}

export async function cancelRun(runId: string, actor: string): Promise<Run> {
  return (await post(`${runUrl(runId)}/cancel`, { actor })) as Run;
}

export async function resumeRun(runId: string, actor: string): Promise<Run> {
  return (await post(`${runUrl(runId)}/resume`, { actor })) as Run;
}

export async function promote(
  alias: string,
  order: { version: number; actor: string; note: string; despite_gates: boolean },
): Promise<AliasState> {
  return (await post(`${TRAINING}/aliases/${encodeURIComponent(alias)}/promote`, order)) as AliasState;
}

export async function rollBack(alias: string, actor: string): Promise<AliasState> {
  return (await post(`${TRAINING}/aliases/${encodeURIComponent(alias)}/rollback`, { actor, note: "" })) as AliasState;
}
