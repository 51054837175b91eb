import type { Part, Problem } from "./types";

const BASE = "/api/v1";

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

async function request(url: string, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
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
