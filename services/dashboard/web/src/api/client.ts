import { activityHeader, doubtSession } from "./session";
import type {
  CaseDetail,
  FollowedNeighbours,
  ListedReview,
  Neighbours,
  NewReview,
  NewUndo,
  Part,
  Problem,
  QueuePage,
  QueueStats,
  Shifts,
  Statistics,
  StatisticsGroup,
  Taken,
} from "./types";

export const BASE = "/api/v1";

/** Longest wait for an answer to what is posted: a connection that says nothing must not hold the next one up. */
const POST_TIMEOUT_MS = 15_000;

export type ThumbnailSide = 160 | 320 | 640;

/** A request that the server refused, or that did not reach it (`reason` is then `offline`). */
export class ApiError extends Error {
  constructor(
    readonly problem: Problem,
    readonly status: number,
  ) {
    super(problem.message);
    this.name = "ApiError";
  }
}

export function imageUrl(frameId: string): string {
  return `${BASE}/frames/${encodeURIComponent(frameId)}/image`;
}

export function thumbnailUrl(frameId: string, side: ThumbnailSide): string {
  return `${BASE}/frames/${encodeURIComponent(frameId)}/thumbnail?size=${side}`;
}

/** A map over the picture; `atMs` is when it was made, so that a newer one has another address. */
export function overlayUrl(frameId: string, method: string, atMs: number): string {
  return `${BASE}/frames/${encodeURIComponent(frameId)}/explanations/${encodeURIComponent(method)}.png?at=${atMs}`;
}

/** The colours of maps, from where they begin to the strongest. */
export const LEGEND_URL = `${BASE}/explanations/legend.png`;

/** A stream of maps that become better. */
export function explainUrl(frameId: string, method: string): string {
  return `${BASE}/frames/${encodeURIComponent(frameId)}/explain?method=${encodeURIComponent(method)}`;
}

export function streamUrl(lineId: string | null): string {
  return lineId === null ? `${BASE}/stream` : `${BASE}/stream?line=${encodeURIComponent(lineId)}`;
}

export async function fetchPart(frameId: string, signal: AbortSignal): Promise<Part> {
  const response = await request(`${BASE}/parts/${encodeURIComponent(frameId)}`, signal);
  return (await response.json()) as Part;
}

/** Ask why a picture did not load; an `<img>` does not tell. Null when it loads after all. */
export async function pictureProblem(url: string, signal: AbortSignal): Promise<Problem | null> {
  try {
    await request(url, signal);
    return null;
  } catch (error) {
    if (error instanceof ApiError) return error.problem;
    throw error;
  }
}

function caseUrl(caseId: string): string {
  return `${BASE}/cases/${encodeURIComponent(caseId)}`;
}

export function caseImageUrl(caseId: string): string {
  return `${caseUrl(caseId)}/image`;
}

export function caseThumbnailUrl(caseId: string, side: ThumbnailSide): string {
  return `${caseUrl(caseId)}/thumbnail?size=${side}`;
}

export function caseOverlayUrl(caseId: string, method: string, atMs: number): string {
  return `${caseUrl(caseId)}/explanations/${encodeURIComponent(method)}.png?at=${atMs}`;
}

/** Cases that wait for an answer, those that teach most first, without those that somebody else holds. */
export async function fetchQueue(
  search: { line: string | null; reviewer: string; after: string | null; limit: number },
  signal: AbortSignal,
): Promise<QueuePage> {
  const query = new URLSearchParams({ order: "gain", state: "open", hide_held_from: search.reviewer, limit: String(search.limit) });
  if (search.line !== null) query.set("line", search.line);
  if (search.after !== null) query.set("after", search.after);
  return (await (await request(`${BASE}/queue?${query}`, signal)).json()) as QueuePage;
}

export async function fetchQueueStats(line: string | null, signal: AbortSignal): Promise<QueueStats> {
  const query = line === null ? "" : `?line=${encodeURIComponent(line)}`;
  return (await (await request(`${BASE}/queue/stats${query}`, signal)).json()) as QueueStats;
}

export async function fetchCase(caseId: string, signal: AbortSignal): Promise<CaseDetail> {
  return (await (await request(caseUrl(caseId), signal)).json()) as CaseDetail;
}

/** The parts to compare a case with. */
export async function fetchNeighbours(caseId: string, signal: AbortSignal): Promise<Neighbours> {
  return (await (await request(`${caseUrl(caseId)}/neighbours`, signal)).json()) as Neighbours;
}

/** Put the neighbours of a case whose verdict was wrong into the queue, so that they can be answered next. */
export async function followNeighbours(caseId: string, reviewer: string): Promise<FollowedNeighbours> {
  return (await post(`${caseUrl(caseId)}/neighbours`, { reviewer })) as FollowedNeighbours;
}

/** What somebody said last, the newest first, without what was taken back. */
export async function fetchReviews(reviewer: string, limit: number, signal: AbortSignal): Promise<ListedReview[]> {
  const query = new URLSearchParams({ reviewer, standing: "true", limit: String(limit) });
  const page = (await (await request(`${BASE}/reviews?${query}`, signal)).json()) as { reviews: ListedReview[] };
  return page.reviews;
}

/** Reserve a case, or prolong that. Refused with 409 while somebody else holds it. */
export async function claimCase(caseId: string, reviewer: string): Promise<{ until_ms: number }> {
  return (await post(`${caseUrl(caseId)}/claim`, { reviewer })) as { until_ms: number };
}

/** Give a case back; also while the page is being closed. */
export async function releaseCase(caseId: string, reviewer: string): Promise<void> {
  await post(`${caseUrl(caseId)}/release`, { reviewer }, true);
}

export async function sendReview(caseId: string, review: NewReview): Promise<Taken> {
  return taken(await post(`${caseUrl(caseId)}/reviews`, review), review.review_id);
}

export async function sendUndo(undoneId: string, undo: NewUndo): Promise<Taken> {
  return taken(await post(`${BASE}/reviews/${encodeURIComponent(undoneId)}/undo`, undo), undo.review_id);
}

/** Only what names our own review is an acknowledgement: a sign-in page is answered with 200 too. */
function taken(body: unknown, reviewId: string): Taken {
  const found = body as Partial<Taken> | null;
  if (found?.review?.review_id === reviewId) return found as Taken;
  throw new ApiError({ reason: "offline", message: "the answer was not the server's" }, 0);
}

export interface StatisticsQuery {
  sinceMs: number;
  untilMs: number;
  group: StatisticsGroup;
  /** Length of a point, for the group `span`. */
  spanS?: number;
  line?: string;
  camera?: string;
  product?: string;
}

export function statisticsUrl(query: StatisticsQuery, table = false): string {
  const search = new URLSearchParams({ group: query.group, since_ms: String(query.sinceMs), until_ms: String(query.untilMs) });
  if (query.spanS !== undefined) search.set("span_s", String(query.spanS));
  for (const name of ["line", "camera", "product"] as const) if (query[name]) search.set(name, query[name]);
  return `${BASE}/statistics${table ? ".csv" : ""}?${search}`;
}

export async function fetchStatistics(query: StatisticsQuery, signal: AbortSignal): Promise<Statistics> {
  return (await (await request(statisticsUrl(query), signal)).json()) as Statistics;
}

export async function fetchShifts(signal: AbortSignal): Promise<Shifts> {
  return (await (await request(`${BASE}/shifts`, signal)).json()) as Shifts;
}

export async function post(url: string, body: object, keepalive = false): Promise<unknown> {
  const headers = { "Content-Type": "application/json", "X-Sightline": "1" };
  const response = await request(url, AbortSignal.timeout(POST_TIMEOUT_MS), {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    keepalive,
  });
  try {
    return await response.json();
  } catch {
    return null;
  }
}

export async function request(url: string, signal: AbortSignal, more: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { ...more, headers: { ...activityHeader(), ...more.headers }, signal });
  } catch (error) {
    if (signal.aborted && (signal.reason as Error | undefined)?.name !== "TimeoutError") throw error;
    throw new ApiError({ reason: "offline", message: "the server did not answer" }, 0);
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.reason === "signed_out" || problem.reason === "other_person") doubtSession();
  throw new ApiError(problem, response.status);
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as { error?: Problem };
    if (body.error) return body.error;
  } catch {
    // Not ours: a proxy in between may answer with anything.
  }
  return { reason: "http", message: `HTTP ${response.status}` };
}
