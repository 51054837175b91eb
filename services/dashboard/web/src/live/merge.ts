import type { Batch, CameraState, Figures, Inspection, LineState, Point, Stats, Wall } from "../api/types";

export const LATEST_KEPT = 24;
export const FLAGGED_KEPT = 12;
const POINTS_KEPT = 59;

const NO_FIGURES: Figures = {
  seen: 0,
  passed: 0,
  failed: 0,
  reviewed: 0,
  late: 0,
  frames_per_s: 0,
  p50_ms: null,
  p95_ms: null,
  p99_ms: null,
};

/** The wall with new verdicts on it. What did not change keeps its identity, so that it is not drawn again. */
export function withBatch(wall: Wall, batch: Batch): Wall {
  const byCamera = new Map<string, Inspection[]>();
  for (const one of batch.verdicts) {
    const key = JSON.stringify([one.line_id, one.camera_id]);
    byCamera.set(key, [...(byCamera.get(key) ?? []), one]);
  }
  let lines = wall.lines;
  for (const verdicts of byCamera.values()) lines = withCameraVerdicts(lines, verdicts);
  return { ...wall, at_ms: batch.at_ms, lines };
}

/** The wall with new figures; cameras that the server no longer knows go. */
export function withStats(wall: Wall, stats: Stats): Wall {
  const lines: LineState[] = [];
  for (const fresh of stats.lines) {
    const line = wall.lines.find((one) => one.line_id === fresh.line_id);
    const cameras = fresh.cameras.map(({ camera_id, figures }) => {
      const camera = line?.cameras.find((one) => one.camera_id === camera_id);
      return { camera_id, figures, latest: camera?.latest ?? [], flagged: camera?.flagged ?? [] };
    });
    const series = withPoints(line?.series ?? [], fresh.series);
    lines.push({ line_id: fresh.line_id, figures: fresh.figures, series, cameras });
  }
  return {
    ...wall,
    at_ms: stats.at_ms,
    figures: stats.figures,
    series: withPoints(wall.series, stats.series),
    components: stats.components,
    lines,
  };
}

/** When the newest verdict on the wall was decided; null before the first. */
export function lastDecidedAt(wall: Wall): number | null {
  let last: number | null = null;
  for (const line of wall.lines)
    for (const camera of line.cameras)
      for (const one of camera.latest.slice(0, 4)) last = Math.max(last ?? 0, one.decided_at_ms);
  return last;
}

function withCameraVerdicts(lines: LineState[], verdicts: Inspection[]): LineState[] {
  const sample = verdicts[0];
  if (!sample) return lines;
  const line = lines.find((one) => one.line_id === sample.line_id) ?? {
    line_id: sample.line_id,
    figures: NO_FIGURES,
    series: [],
    cameras: [],
  };
  const camera = line.cameras.find((one) => one.camera_id === sample.camera_id) ?? {
    camera_id: sample.camera_id,
    figures: NO_FIGURES,
    latest: [],
    flagged: [],
  };
  const latest = newestFirst(camera.latest, verdicts, LATEST_KEPT);
  const superseded = new Set(verdicts.map((one) => one.frame_id));
  const flagged = newestFirst(
    camera.flagged.filter((one) => !superseded.has(one.frame_id)),
    verdicts.filter((one) => one.verdict !== "pass"),
    FLAGGED_KEPT,
  );
  const changed: CameraState = { ...camera, latest, flagged };
  const cameras = replaced(line.cameras, changed, (one) => one.camera_id);
  return replaced(lines, { ...line, cameras }, (one) => one.line_id);
}

function newestFirst(known: Inspection[], fresh: Inspection[], keep: number): Inspection[] {
  const byFrame = new Map(known.map((one) => [one.frame_id, one]));
  for (const one of fresh) {
    const before = byFrame.get(one.frame_id);
    // The verdict decided last stands, in whatever order the two arrive.
    if (!before || one.decided_at_ms >= before.decided_at_ms) byFrame.set(one.frame_id, one);
  }
  return [...byFrame.values()]
    .sort((a, b) => b.captured_at_ms - a.captured_at_ms || b.sequence - a.sequence)
    .slice(0, keep);
}

function replaced<T>(all: T[], changed: T, key: (one: T) => string): T[] {
  const place = all.findIndex((one) => key(one) === key(changed));
  if (place >= 0) return all.with(place, changed);
  return [...all, changed].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function withPoints(known: Point[], fresh: Point[]): Point[] {
  const byStart = new Map(known.map((one) => [one[0], one]));
  for (const one of fresh) byStart.set(one[0], one);
  return [...byStart.values()].sort((a, b) => a[0] - b[0]).slice(-POINTS_KEPT);
}
