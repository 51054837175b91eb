import type { CaseDetail, NewReview, NewUndo, Part, Problem, QueuePage, QueueStats, Review, Taken } from "./types";

const BASE = "/api/v1";

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

/** What somebody said last, the newest first, without what was taken back. */
export async function fetchReviews(reviewer: string, limit: number, signal: AbortSignal): Promise<Review[]> {
  const query = new URLSearchParams({ reviewer, standing: "true", limit: String(limit) });
  const page = (await (await request(`${BASE}/reviews?${query}`, signal)).json()) as { reviews: Review[] };
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

async function post(url: string, body: object, keepalive = false): Promise<unknown> {
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

async function request(url: string, signal: AbortSignal, more: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { ...more, signal });
  } catch (error) {
    if (signal.aborted && (signal.reason as Error | undefined)?.name !== "TimeoutError") throw error;
    throw new ApiError({ reason: "offline", message: "the server did not answer" }, 0);
  }
  if (response.ok) return response;
  throw new ApiError(await problemOf(response), response.status);
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
