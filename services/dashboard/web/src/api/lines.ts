// The lines and their answers; services/dashboard/views_lines.py and linestate.py say the same in Python.

import { BASE, post, request } from "./client";
import type { Reason, Verdict } from "./types";

export type Light = "green" | "amber" | "red";

/** What keeps a light from being green. */
export interface LightCause {
  /** Stable token: `alarm`, `connection`, `heartbeat`, `safe`, `reference`, `no_outcomes`; others may come. */
  token: string;
  /** An alarm's id, a connection's name; may be empty. */
  about: string;
  text: string;
  light: Light | null;
}

export type Handshake = "ready" | "busy" | "result" | "releasing" | "safe";

export interface LineConnection {
  name: string;
  kind: string;
  address: string;
  up: boolean;
  /** Null for a connection that only tells. */
  handshake: Handshake | null;
  part_id: string;
  /** As the PLC sees it; 0 is none. */
  error_code: number;
  waiting: number;
  oldest_waiting_ms: number;
  detail: string;
}

export interface Alarm {
  alarm_id: string;
  rule: string;
  light: Light | null;
  text: string;
  raised_at_ms: number;
  part_id: string;
  camera_id: string;
  product: string;
  defect_class: string;
  /** Empty while nobody has. */
  acknowledged_by: string;
  acknowledged_at_ms: number | null;
  note: string;
  /** Times that its rule was met again while it stood. */
  repeats: number;
}

export interface ReferencePart {
  part_id: string;
  expected: Verdict | null;
  /** Null while it was not seen. */
  seen: Verdict | null;
}

export interface Reference {
  /** Null for a line without reference parts. */
  phase: "due" | "passed" | "failed" | null;
  occasion: string;
  due_at_ms: number | null;
  ended_at_ms: number | null;
  parts: ReferencePart[];
}

/** First answers of the last minutes. */
export interface Counts {
  window_s: number;
  passed: number;
  failed: number;
  reviewed: number;
  late: number;
}

/** How a line is now. */
export interface LineNow {
  line_id: string;
  product: string;
  lot: string;
  /** Null where the service does not say. */
  light: Light | null;
  /** The gravest first. */
  causes: LightCause[];
  connections: LineConnection[];
  /** Those that nobody has acknowledged, the newest first. */
  alarms: Alarm[];
  past_alarms: Alarm[];
  reference: Reference;
  counts: Counts;
  newest: PartAnswers | null;
}

export interface LinesNow {
  at_ms: number;
  /** Whether an outcome service is set at all. */
  offered: boolean;
  /** Whether it has answered yet. */
  known: boolean;
  /** Null while it answers. */
  away: { since_ms: number; detail: string } | null;
  /** As they were when it last answered. */
  lines: LineNow[];
}

export interface OutcomeView {
  camera_id: string;
  frame_id: string;
  verdict: Verdict;
  reason: Reason;
  score: number | null;
  alias: string;
  model_version: number;
  captured_at_ms: number;
  decided_at_ms: number;
  defect_class: string;
  expected: boolean;
}

export interface Outcome {
  outcome_id: string;
  revision: number;
  verdict: Verdict;
  reason: "views" | "deadline_missed" | "unknown_product" | "overloaded";
  in_time: boolean;
  began_at_ms: number;
  deadline_at_ms: number | null;
  decided_at_ms: number;
  took_ms: number;
  /** Left until the deadline, negative where it came too late; null without one. */
  spare_ms: number | null;
  views: OutcomeView[];
  missing_cameras: string[];
  defect_class: string;
  detail: string;
}

export interface LineEvent {
  event_id: string;
  line_id: string;
  at_ms: number;
  kind: string;
  connection: string;
  part_id: string;
  revision: number;
  verdict: Verdict | null;
  error_code: number;
  product: string;
  lot: string;
  actor: string;
  detail: string;
  alarm_id: string;
  light: Light | null;
}

/** A part with all its revisions, the oldest first: never none. */
export interface PartAnswers {
  part_id: string;
  line_id: string;
  product: string;
  lot: string;
  revisions: Outcome[];
  /** What the line was told; null while that is not known. */
  answered: LineEvent | null;
}

export interface CycleTimes {
  parts: number;
  p50_ms: number | null;
  p99_ms: number | null;
  /** Parts with a deadline, and those of them that were answered before it. */
  due: number;
  in_time: number;
  deadlines_ms: number[];
  bar_ms: number;
  /** Where a bar begins, then parts in time and late; the last one is open to the right. */
  bars: [fromMs: number, inTime: number, late: number][];
}

export interface LineOutcomes {
  line_id: string;
  /** Newest first. */
  parts: PartAnswers[];
  next: string | null;
  counts: Counts;
  cycle: CycleTimes;
}

function lineUrl(lineId: string): string {
  return `${BASE}/lines/${encodeURIComponent(lineId)}`;
}

export async function fetchOutcomes(lineId: string, limit: number, signal: AbortSignal): Promise<LineOutcomes> {
  return (await (await request(`${lineUrl(lineId)}/outcomes?limit=${limit}`, signal)).json()) as LineOutcomes;
}

export async function fetchLineEvents(lineId: string, limit: number, signal: AbortSignal): Promise<LineEvent[]> {
  const answer = await request(`${lineUrl(lineId)}/events?limit=${limit}`, signal);
  return ((await answer.json()) as { events: LineEvent[] }).events;
}

/** Null where nothing is in memory. */
export async function fetchPartOutcome(partId: string, lineId: string, signal: AbortSignal): Promise<PartAnswers | null> {
  const url = `${BASE}/parts/${encodeURIComponent(partId)}/outcome?line=${encodeURIComponent(lineId)}`;
  return ((await (await request(url, signal)).json()) as { part: PartAnswers | null }).part;
}

export async function acknowledgeAlarm(lineId: string, alarmId: string, person: string, note: string): Promise<Alarm> {
  const url = `${lineUrl(lineId)}/alarms/${encodeURIComponent(alarmId)}/acknowledge`;
  return ((await post(url, { person, note })) as { alarm: Alarm }).alarm;
}

export async function beginReferenceCheck(lineId: string, person: string): Promise<Reference> {
  return ((await post(`${lineUrl(lineId)}/reference-check`, { person })) as { reference: Reference }).reference;
}
