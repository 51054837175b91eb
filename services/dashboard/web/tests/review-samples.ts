import type { CaseDetail, NewReview, QueuedCase, Review, Taken, Verdict } from "../src/api/types";
import type { NewParcel } from "../src/review/outbox";
import { inspection } from "./samples";

export function queued(number: number, verdict: Verdict = "fail", change: Partial<QueuedCase> = {}): QueuedCase {
  return {
    case_id: `case-${number}`,
    kind: verdict === "pass" ? "audit" : verdict,
    inspection: inspection(number, { verdict }),
    uncertainty: 0.4,
    image: { width: 64, height: 48 },
    sampling_probability: 1,
    shown_method: "invrise-soft",
    shown_grade: "B",
    gain: 0.5,
    state: "open",
    settled_verdict: null,
    claimed_by: "",
    claimed_until_ms: null,
    explained_at_ms: 2_000,
    ...change,
  };
}

export function detail(one: QueuedCase): CaseDetail {
  return { case: one, explained: { state: "explained", at_ms: 2_000, agreement: null, methods: [] }, explanations: [], reviews: [] };
}

export function newReview(id: string): NewReview {
  return {
    review_id: id,
    action: "answer",
    verdict_right: "yes",
    reason_right: "yes",
    corrected_verdict: null,
    defect_class: "",
    area: [],
    note: "",
    reviewer: "Anna",
    said_at_ms: 1_000,
    shown_method: "invrise-soft",
    mask_png: null,
  };
}

export function review(id: string, change: Partial<Review> = {}): Review {
  return {
    review_id: id,
    case_id: "case-1",
    frame_id: "frame-1",
    action: "answer",
    verdict_right: "yes",
    reason_right: "yes",
    corrected_verdict: null,
    defect_class: "",
    has_mask: false,
    mask_pixels: 0,
    area: [],
    note: "",
    reviewer: "Anna",
    reviewed_at_ms: 1_000,
    said_at_ms: 900,
    alias: "default",
    model_version: 1,
    shown_method: "invrise-soft",
    supersedes: null,
    disagrees_with: null,
    ...change,
  };
}

export function taken(id: string): Taken {
  return { review: review(id), state: "reviewed" };
}

export function reviewParcel(id: string, caseId = `case of ${id}`): NewParcel {
  return { id, kind: "review", said: "right", caseId, partId: "part-1", body: newReview(id) };
}

export function undoParcel(id: string, undoes: string, caseId = `case of ${undoes}`): NewParcel {
  return { id, kind: "undo", undoes, caseId, partId: "part-1", body: { review_id: id, reviewer: "Anna", said_at_ms: 2_000 } };
}
