// What the dashboard's server sends; services/dashboard/views.py says the same in Python.

export type Verdict = "pass" | "fail" | "review";
export type Reason = "score" | "unsure" | "unreadable_image" | "deadline_missed" | "disagreement";

export interface Inspection {
  frame_id: string;
  part_id: string;
  line_id: string;
  camera_id: string;
  product: string;
  sequence: number;
  captured_at_ms: number;
  decided_at_ms: number;
  verdict: Verdict;
  reason: Reason;
  /** Anomaly score, higher is worse; null where no model saw the picture. */
  score: number | null;
  threshold: number | null;
  review_low: number | null;
  review_high: number | null;
  alias: string;
  /** 0 where no model saw the picture. */
  model_version: number;
  defect_class: string;
  /** 0 = no deadline. */
  cycle_time_ms: number;
  in_time: boolean;
  /** From capture until the detector took it. */
  queue_ms: number | null;
  total_ms: number | null;
  detail: string;
  /** Of the detectors of a panel: twice the share of the minority, 0 to 1; 0 where all say the same or there is one. */
  disagreement: number;
}

/** Over the last five minutes, apart from `seen` (since the start) and `frames_per_s` (last ten seconds). */
export interface Figures {
  seen: number;
  passed: number;
  failed: number;
  reviewed: number;
  late: number;
  frames_per_s: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
}

/** Start in seconds since the epoch, then the verdicts of `point_s` seconds: pass, fail, review. */
export type Point = [startS: number, passed: number, failed: number, reviewed: number];

export interface CameraState {
  camera_id: string;
  figures: Figures;
  /** Newest first. */
  latest: Inspection[];
  /** Newest FAIL and REVIEW first. */
  flagged: Inspection[];
}

export interface LineState {
  line_id: string;
  figures: Figures;
  series: Point[];
  cameras: CameraState[];
}

export type ComponentState = "up" | "not_ready" | "down" | "unknown";

export interface Component {
  name: string;
  state: ComponentState;
  detail: string;
  since_ms: number;
  /** 0 = never asked. */
  checked_at_ms: number;
}

export interface Wall {
  at_ms: number;
  epoch: string;
  revision: number;
  window_s: number;
  point_s: number;
  stale_s: number;
  figures: Figures;
  series: Point[];
  lines: LineState[];
  components: Component[];
}

export interface Batch {
  at_ms: number;
  verdicts: Inspection[];
}

export interface Stats {
  at_ms: number;
  figures: Figures;
  series: Point[];
  lines: {
    line_id: string;
    figures: Figures;
    series: Point[];
    cameras: { camera_id: string; figures: Figures }[];
  }[];
  components: Component[];
}

export interface StageTimings {
  queue_ms: number | null;
  fetch_ms: number | null;
  decode_ms: number | null;
  infer_ms: number | null;
  total_ms: number | null;
}

export type Place =
  | { kind: "object"; bucket: string; key: string; size_bytes: number; sha256: string }
  | { kind: "record"; topic: string; partition: number; offset: number }
  | { kind: "none" };

export type ExplanationStatus = "done" | "partial" | "failed";
export type Grade = "A" | "B" | "C" | "D";

/** Where one method sees the reason of a verdict. Null is not measured. */
export interface Explanation {
  method: string;
  status: ExplanationStatus;
  /** Stable token of why there is no map; empty unless failed. */
  reason: string;
  detail: string;
  has_map: boolean;
  /** Empty stands for the anomaly score. */
  target_class: string;
  probability: number | null;
  grade: Grade | null;
  /** Estimated chance that the defect lies at the hottest point. */
  trust: number | null;
  deletion_auc: number | null;
  insertion_auc: number | null;
  random_auc: number | null;
  transplant: number | null;
  stability: number | null;
  coverage: number | null;
  passes: number;
  seconds: number | null;
  scale: { calibrated: boolean; low: number | null; high: number | null };
  /** Shares of the picture's width and height. */
  hottest: { x: number; y: number } | null;
  /** Share of the picture that is coloured; null where the scale is not calibrated. */
  coloured_share: number | null;
}

export interface Explained {
  /** `no_case`: it passed, so nothing had to be explained. `missing`: none is kept any more. */
  state: "explained" | "pending" | "no_case" | "missing" | "unavailable";
  at_ms: number | null;
  /** Overlap of the hottest tenths of the first two maps. */
  agreement: number | null;
  /** What a map can be asked for with; empty where none can be made. */
  methods: string[];
}

/** One map on its way, made on request. */
export interface ExplainStep {
  explanation: Explanation;
  /** The overlay, base64; empty without a map. */
  png: string;
  final: boolean;
}

export interface Part {
  inspection: Inspection;
  explained: Explained;
  /** The one that is shown first in front. */
  explanations: Explanation[];
  uncertainty: number | null;
  timings: StageTimings;
  place: Place;
  trace_id: string;
  /** Other verdicts on the same frame, newest first. */
  earlier: Inspection[];
  /** The other frames of the same part. */
  views: Inspection[];
  previous_frame_id: string | null;
  next_frame_id: string | null;
  /** Frames of the same camera around this one, oldest first, itself included. */
  neighbours: Inspection[];
}

export type Answer = "yes" | "no" | "not_sure" | "not_asked";
export type Decided = "pass" | "fail";
export type CaseState = "open" | "reviewed" | "disputed";

/** A case as a queue shows it. */
export interface QueuedCase {
  case_id: string;
  /** `audit`: drawn at random among the parts that passed; `neighbour`: like a part whose verdict was wrong. */
  kind: "fail" | "review" | "audit" | "neighbour";
  inspection: Inspection;
  uncertainty: number | null;
  /** Zeros where the picture cannot be decoded. */
  image: { width: number; height: number };
  sampling_probability: number;
  /** Method of the map that is shown first; empty where there is none. */
  shown_method: string;
  shown_grade: Grade | null;
  /** What an answer would teach, 0 to 1. */
  gain: number;
  state: CaseState;
  settled_verdict: Decided | null;
  claimed_by: string;
  claimed_until_ms: number | null;
  explained_at_ms: number;
}

export interface QueuePage {
  cases: QueuedCase[];
  next: string | null;
}

export interface QueueStats {
  open: number;
  reviewed: number;
  disputed: number;
  verdict_right: number;
  false_rejects: number;
  escapes: number;
  wrong_reason: number;
}

/** What somebody said of a case, as it is on record. */
export interface Review {
  review_id: string;
  case_id: string;
  frame_id: string;
  action: "answer" | "skip" | "undo";
  verdict_right: Answer;
  reason_right: Answer;
  corrected_verdict: Decided | null;
  defect_class: string;
  has_mask: boolean;
  mask_pixels: number;
  area: [x: number, y: number][];
  note: string;
  reviewer: string;
  reviewed_at_ms: number;
  said_at_ms: number | null;
  alias: string;
  model_version: number;
  shown_method: string;
  supersedes: string | null;
  disagrees_with: string | null;
}

/** A review in a list of many cases'. */
export interface ListedReview extends Review {
  /** Null where the case is not known yet. */
  part_id: string | null;
  /** That the model gave. */
  verdict: Verdict | null;
}

export interface CaseDetail {
  case: QueuedCase;
  explained: Explained;
  /** The one that is shown first in front. */
  explanations: Explanation[];
  reviews: Review[];
}

/** A review on its way to the server. */
export interface NewReview {
  /** Made here, once: the same id twice is one review. */
  review_id: string;
  action: "answer" | "skip";
  verdict_right: Answer;
  reason_right: Answer;
  corrected_verdict: Decided | null;
  defect_class: string;
  /** Corners in pixels of the picture; none, or at least three. */
  area: [x: number, y: number][];
  note: string;
  reviewer: string;
  said_at_ms: number;
  /** Method of the map that was on screen; empty where there was none. */
  shown_method: string;
  /** Base64, of the picture's size, white on the defect. */
  mask_png: string | null;
}

export interface NewUndo {
  review_id: string;
  reviewer: string;
  said_at_ms: number;
}

/** What became of a review. */
export interface Taken {
  review: Review;
  state: CaseState;
}

/** How a neighbour stands to a case: the most similar of its class, the most similar of the other one, the least similar. */
export type Relation = "near_hit" | "near_miss" | "farthest";

/** A part that is compared with a case. */
export interface Neighbour {
  relation: Relation;
  /** Cosine of the two embeddings, -1 to 1. */
  similarity: number;
  /** Null for a part that never was a case. */
  case_id: string | null;
  frame_id: string;
  part_id: string;
  verdict: Verdict;
  settled_verdict: Decided | null;
  score: number | null;
  captured_at_ms: number;
  state: CaseState | null;
  /** Addresses of its picture. */
  thumbnail: string;
  image: string;
}

export interface Neighbours {
  neighbours: Neighbour[];
  /** How many parts were compared. */
  compared: number;
  /** Every one of them was looked at; false where an index found them. */
  exact: boolean;
}

/** Neighbours that wait to be answered, as a wrong verdict asks for them. */
export interface FollowedNeighbours extends Neighbours {
  /** Near hit first. */
  queued: QueuedCase[];
}

export interface Problem {
  /** Stable token, for example `image_expired`. */
  reason: string;
  message: string;
}

// ---- statistics

export type StatisticsGroup = "line" | "camera" | "product" | "model_version" | "shift" | "shift_of_day" | "span";

/** The figures of a group. Null is not known: there is nothing to divide by. */
export interface StatisticsRow {
  /** Line, camera, product, alias or shift; empty for the time outside of all shifts, points and the total. */
  name: string;
  /** Of a camera. */
  line_id: string;
  model_version: number;
  /** Of a shift of one day, like 2026-11-25. */
  day: string;
  /** Of a shift of one day, a point or the total; else 0. */
  begins_ms: number;
  ends_ms: number;
  inspections: number;
  passed: number;
  failed: number;
  review: number;
  late: number;
  defect_rate: number | null;
  first_pass_yield: number | null;
  reviewed: number;
  fails_reviewed: number;
  false_rejects: number;
  escapes: number;
  wrong_reasons: number;
  audit: Audit;
}

/** Of the sample that was drawn at random among what passed. */
export interface Audit {
  drawn: number;
  reviewed: number;
  undecided: number;
  escapes: number;
  /** Share of the drawn that the estimate speaks of. */
  covered: number | null;
  /** Estimated share of passed inspections that are defective, with its 95 % interval. */
  rate: number | null;
  low: number | null;
  high: number | null;
}

export interface Statistics {
  group: StatisticsGroup;
  since_ms: number;
  until_ms: number;
  /** Before this time no verdicts are counted any more. */
  kept_since_ms: number;
  rows: StatisticsRow[];
  total: StatisticsRow;
}

export interface Shifts {
  shifts: { name: string; begins_min: number; ends_min: number }[];
  time_zone: string;
  day_begins_ms: number;
  /** Null between shifts. */
  shift: { name: string; begins_ms: number; ends_ms: number } | null;
}
