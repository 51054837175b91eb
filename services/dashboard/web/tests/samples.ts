import type { Explanation, Figures, Inspection, Wall } from "../src/api/types";

export const FIGURES: Figures = {
  seen: 1,
  passed: 1,
  failed: 0,
  reviewed: 0,
  late: 0,
  frames_per_s: 0.1,
  p50_ms: 40,
  p95_ms: 50,
  p99_ms: 60,
};

export function inspection(number: number, change: Partial<Inspection> = {}): Inspection {
  return {
    frame_id: `frame-${number}`,
    part_id: `part-${number}`,
    line_id: "line-1",
    camera_id: "cam-1",
    product: "disc",
    sequence: number,
    captured_at_ms: 1_000 * number,
    decided_at_ms: 1_000 * number + 40,
    verdict: "pass",
    reason: "score",
    score: 0.2,
    threshold: 0.62,
    review_low: 0.55,
    review_high: 0.68,
    alias: "default",
    model_version: 1,
    defect_class: "",
    cycle_time_ms: 250,
    in_time: true,
    queue_ms: 5,
    total_ms: 40,
    detail: "",
    disagreement: 0,
    ...change,
  };
}

export function wall(latest: Inspection[] = []): Wall {
  return {
    at_ms: 1_000,
    epoch: "e",
    revision: latest.length,
    window_s: 300,
    point_s: 5,
    stale_s: 10,
    figures: FIGURES,
    series: [],
    components: [],
    lines: [
      {
        line_id: "line-1",
        figures: FIGURES,
        series: [],
        cameras: [{ camera_id: "cam-1", figures: FIGURES, latest, flagged: latest.filter((one) => one.verdict !== "pass") }],
      },
    ],
  };
}

export function explanation(method: string, change: Partial<Explanation> = {}): Explanation {
  return {
    method,
    status: "done",
    reason: "",
    detail: "",
    has_map: true,
    target_class: "",
    probability: 0.93,
    grade: "B",
    trust: 0.62,
    deletion_auc: 0.3,
    insertion_auc: 0.8,
    random_auc: 0.5,
    transplant: 0.4,
    stability: 0.9,
    coverage: 1,
    passes: 320,
    seconds: 1.4,
    scale: { calibrated: true, low: 0.1, high: 0.4 },
    hottest: { x: 0.8, y: 0.2 },
    coloured_share: 0.04,
    ...change,
  };
}
