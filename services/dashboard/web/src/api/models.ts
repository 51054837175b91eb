// Models and what they changed; services/dashboard/views_models.py says the same in Python.
import { BASE, request } from "./client";
import type { Decided, Verdict } from "./types";

/** What an alias points to, and what last changed that. A version of 0 means none. */
export interface AliasState {
  revision: number;
  live_version: number;
  previous_version: number;
  shadow_version: number;
  candidate_versions: number[];
  action: "add" | "promote" | "roll_back" | "shadow" | "retire";
  actor: string;
  at_ms: number;
  note: string;
}

export interface Alias extends AliasState {
  alias: string;
  /** In the object store; null while that is away. */
  stored_versions: number[] | null;
  /** The newest first, this state itself included. */
  history: AliasState[];
}

export interface Models {
  /** Whether the topic was read to its end: before that, an alias may be missing. */
  known: boolean;
  aliases: Alias[];
}

export interface Metric {
  value: number;
  low: number;
  high: number;
  n: number;
}

export interface ModelVersion {
  alias: string;
  version: number;
  architecture: string;
  classes: string[];
  preprocessing: { mode: string; width_px: number; height_px: number };
  operating_point: { threshold: number; review_low: number; review_high: number };
  calibration: { rule: "escape_rate" | "false_reject_rate"; target: number; confidence: number };
  lineage: {
    source: string;
    description: string;
    n_train: number;
    n_calibration: number;
    n_holdout: number;
    parent: string;
    backbone_weights: string;
  };
  metrics: Record<string, Metric>;
  code_version: string;
  created_at_ms: number;
  size_bytes: number;
}

export type Outcome = "now_right" | "still_right" | "asks" | "still_wrong" | "now_wrong";

export interface PartCounts extends Record<Outcome, number> {
  parts: number;
  left_out: number;
  waiting: number;
}

/** A number of frames with its interval (95 %). */
export interface FrameEstimate {
  value: number;
  low: number;
  high: number;
}

export interface Flip {
  before: Verdict;
  after: Verdict;
  flipped: number;
  compared: number;
  estimate: FrameEstimate;
}

export interface Change {
  alias: string;
  revision: number;
  live_version: number;
  previous_version: number;
  action: "promote" | "roll_back" | null;
  actor: string;
  at_ms: number;
  note: string;
  state: "comparing" | "done" | "superseded";
  ended_at_ms: number | null;
  counts: PartCounts;
  flips: Flip[];
  flipped: FrameEstimate | null;
  frames: number;
  frames_compared: number;
  frames_since_ms: number | null;
  frames_until_ms: number | null;
  planned: number;
  settled: number;
  /** What the comparison waits for; empty while it goes on. */
  waits_for: string;
}

export interface ChangePage {
  changes: Change[];
  next: string | null;
  /** Whether a feedback service compares at all. */
  compares: boolean;
}

export interface PartVerdict {
  verdict: Verdict;
  score: number | null;
  threshold: number | null;
  review_low: number | null;
  review_high: number | null;
  model_version: number;
  defect_class: string;
}

export interface Correction {
  review_id: string;
  reviewer: string;
  kind: "verdict" | "decision" | "reason";
  settled: Decided;
  defect_class: string;
  reviewed_at_ms: number;
  withdrawn: boolean;
}

export interface ComparedPart {
  case_id: string;
  part_id: string;
  line_id: string;
  camera_id: string;
  captured_at_ms: number;
  settled: Decided;
  outcome: Outcome | null;
  /** Why it cannot be compared; empty where it can. */
  left_out: string;
  before: PartVerdict;
  after: PartVerdict | null;
  corrections: Correction[];
}

export interface ChangeDetail {
  change: Change;
  parts: ComparedPart[];
}

export async function fetchModels(signal: AbortSignal): Promise<Models> {
  return (await (await request(`${BASE}/models`, signal)).json()) as Models;
}

export async function fetchVersion(alias: string, version: number, signal: AbortSignal): Promise<ModelVersion> {
  return (await (await request(`${BASE}/models/${encodeURIComponent(alias)}/${version}`, signal)).json()) as ModelVersion;
}

export async function fetchChanges(
  search: { reviewer: string | null; after: string | null; limit: number },
  signal: AbortSignal,
): Promise<ChangePage> {
  const query = new URLSearchParams({ limit: String(search.limit) });
  if (search.reviewer !== null) query.set("reviewer", search.reviewer);
  if (search.after !== null) query.set("after", search.after);
  return (await (await request(`${BASE}/changes?${query}`, signal)).json()) as ChangePage;
}

export async function fetchChange(
  alias: string,
  revision: number,
  reviewer: string | null,
  signal: AbortSignal,
): Promise<ChangeDetail> {
  const query = reviewer === null ? "" : `?${new URLSearchParams({ reviewer })}`;
  const url = `${BASE}/changes/${encodeURIComponent(alias)}/${revision}${query}`;
  return (await (await request(url, signal)).json()) as ChangeDetail;
}
