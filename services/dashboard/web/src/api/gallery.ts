import { filterQuery, type Filter, type Order } from "../gallery/filter";
import type { BulkAction, BulkAnswer, BulkResult } from "../gallery/bulk";
import { ApiError, post, request } from "./client";
import type { QueuedCase, QueuePage, QueueStats } from "./types";

const BASE = "/api/v1";

export type Layout = "coco" | "labels" | "mvtec" | "two-folders";
export const LAYOUTS: Layout[] = ["coco", "labels", "mvtec", "two-folders"];

export interface ExportChoice {
  layout: Layout;
  /** Takes the model's word for cases that nobody has answered. */
  modelToo: boolean;
  reviewers: boolean;
}

export async function fetchCases(filter: Filter, order: Order, after: string | null, limit: number, signal: AbortSignal): Promise<QueuePage> {
  const query = filterQuery(filter);
  query.set("order", order);
  query.set("limit", String(limit));
  if (after !== null) query.set("after", after);
  return (await (await request(`${BASE}/queue?${query}`, signal)).json()) as QueuePage;
}

export async function fetchCounts(filter: Filter, signal: AbortSignal): Promise<QueueStats> {
  return (await (await request(`${BASE}/queue/stats?${filterQuery({ ...filter, state: "" })}`, signal)).json()) as QueueStats;
}

/** Cases of a part, a frame, or one case. */
export async function findCases(text: string, signal: AbortSignal): Promise<{ cases: QueuedCase[]; more: boolean }> {
  const query = new URLSearchParams({ text, limit: "200" });
  return (await (await request(`${BASE}/search?${query}`, signal)).json()) as { cases: QueuedCase[]; more: boolean };
}

export async function sendBulk(reviewer: string, action: BulkAction, answers: BulkAnswer[]): Promise<BulkResult[]> {
  const body = { reviewer, action, answers, said_at_ms: Date.now() };
  const told = (await post(`${BASE}/reviews/bulk`, body)) as { results?: BulkResult[] } | null;
  if (told?.results) return told.results;
  throw new ApiError({ reason: "offline", message: "the answer was not the server's" }, 0);
}

/** Where a filter's archive is: the browser itself keeps it, however large it is. */
export function exportUrl(filter: Filter, choice: ExportChoice): string {
  const query = filterQuery(filter);
  query.set("layout", choice.layout);
  if (choice.modelToo) query.set("labels", "settled-else-model");
  if (choice.reviewers) query.set("reviewers", "true");
  return `${BASE}/exports?${query}`;
}

/** Cases that are named, as an archive; what breaks off on the way is an error and no archive. */
export async function exportCases(caseIds: string[], choice: ExportChoice, signal: AbortSignal): Promise<{ archive: Blob; name: string }> {
  const body = {
    case_ids: caseIds,
    layout: choice.layout,
    labels: choice.modelToo ? "settled-else-model" : "settled",
    reviewers: choice.reviewers,
  };
  const headers = { "Content-Type": "application/json", "X-Sightline": "1" };
  const response = await request(`${BASE}/exports`, signal, { method: "POST", headers, body: JSON.stringify(body) });
  const name = /filename="([\w.-]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? "sightline.zip";
  try {
    return { archive: await response.blob(), name };
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError({ reason: "offline", message: "the archive broke off" }, 0);
  }
}
