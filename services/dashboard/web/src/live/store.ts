import { streamUrl } from "../api/client";
import { doubtSession } from "../api/session";
import type { LinesNow } from "../api/lines";
import type { Batch, Stats, Wall } from "../api/types";
import type { StreamPhase } from "./connection";
import { lastDecidedAt, withBatch, withStats } from "./merge";

export interface LiveState {
  phase: StreamPhase;
  /** When the stream was lost, by this browser's clock. */
  lostSinceMs: number;
  /** What the server's clock is ahead of this browser's. */
  clockAheadMs: number;
  wall: Wall | null;
  lastDecidedMs: number | null;
  /** The wall as it was when it was frozen; null while it is live. */
  frozen: Wall | null;
  lineId: string | null;
  /** Every line's light, alarms and answers; null where no outcome service is set, or before it is known. */
  lines: LinesNow | null;
}

/** Told of frames whose explanations have come; null stands for "any may have". */
export type ExplainedListener = (frameIds: string[] | null) => void;

const REDRAW_MS = 400;
const SILENCE_MS = 5_000;
const RETRY_MS = 1_500;

/** The one place that follows the line. Everything on the page is drawn from its state. */
export class LiveStore {
  private state: LiveState = {
    phase: "connecting",
    lostSinceMs: 0,
    clockAheadMs: 0,
    wall: null,
    lastDecidedMs: null,
    frozen: null,
    lineId: null,
    lines: null,
  };
  private shown = this.state;
  private readonly listeners = new Set<() => void>();
  private readonly explainedListeners = new Set<ExplainedListener>();
  private source: EventSource | null = null;
  private redraw: ReturnType<typeof setTimeout> | null = null;
  private retry: ReturnType<typeof setTimeout> | null = null;
  private watch: ReturnType<typeof setInterval> | null = null;
  private heardAtMs = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly onExplained = (listener: ExplainedListener): (() => void) => {
    this.explainedListeners.add(listener);
    return () => this.explainedListeners.delete(listener);
  };

  readonly read = (): LiveState => this.shown;

  /** Follow the line; idempotent. */
  start(): void {
    if (this.watch !== null) return;
    this.watch = setInterval(() => this.checkSilence(), 1_000);
    this.open();
  }

  /** Let go of the server. */
  stop(): void {
    if (this.watch !== null) clearInterval(this.watch);
    if (this.redraw !== null) clearTimeout(this.redraw);
    this.watch = this.redraw = null;
    this.close();
  }

  /** Show one line only, or with null all of them. */
  showLine(lineId: string | null): void {
    if (lineId === this.state.lineId) return;
    this.update({ lineId, wall: null, frozen: null, phase: "connecting" }, true);
    if (this.watch !== null) this.open();
  }

  /** Hold the wall still, so that a person can look; the line goes on behind it. */
  freeze(): void {
    if (this.state.wall) this.update({ frozen: this.state.wall }, true);
  }

  resume(): void {
    this.update({ frozen: null }, true);
  }

  private open(): void {
    this.close();
    this.heardAtMs = Date.now();
    const source = new EventSource(streamUrl(this.state.lineId));
    this.source = source;
    source.addEventListener("snapshot", (event) => {
      const wall = JSON.parse(event.data as string) as Wall;
      this.heard(wall.at_ms, { wall });
    });
    source.addEventListener("batch", (event) => {
      const batch = JSON.parse(event.data as string) as Batch;
      if (this.state.wall) this.heard(batch.at_ms, { wall: withBatch(this.state.wall, batch) });
    });
    source.addEventListener("explained", (event) => {
      this.heardAtMs = Date.now();
      this.sayExplained((JSON.parse(event.data as string) as { frame_ids: string[] | null }).frame_ids);
    });
    source.addEventListener("lines", (event) => {
      this.heardAtMs = Date.now();
      this.update({ lines: JSON.parse(event.data as string) as LinesNow }, true);
    });
    source.addEventListener("stats", (event) => {
      const stats = JSON.parse(event.data as string) as Stats;
      if (this.state.wall) this.heard(stats.at_ms, { wall: withStats(this.state.wall, stats) });
    });
    source.addEventListener("bye", () => this.lost());
    source.onerror = () => {
      this.lost();
      // The browser reconnects by itself, with the id of the last event, unless it was refused.
      if (source.readyState !== EventSource.CLOSED) return;
      // It does not say why it was refused.
      doubtSession();
      this.reopenLater();
    };
  }

  private close(): void {
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
    this.source?.close();
    this.source = null;
  }

  private reopenLater(): void {
    this.retry ??= setTimeout(() => {
      this.retry = null;
      this.open();
    }, RETRY_MS);
  }

  /** The server speaks every second; a connection that says nothing is dead even if nobody has noticed. */
  private checkSilence(): void {
    if (Date.now() - this.heardAtMs < SILENCE_MS) return;
    this.lost();
    this.open();
  }

  private heard(atMs: number, change: { wall: Wall }): void {
    const nowMs = Date.now();
    this.heardAtMs = nowMs;
    const opened = this.state.phase !== "open";
    const lastDecidedMs = Math.max(lastDecidedAt(change.wall) ?? 0, this.state.lastDecidedMs ?? 0) || null;
    this.update({ ...change, lastDecidedMs, phase: "open", clockAheadMs: atMs - nowMs }, opened);
    // What was explained while nobody listened is not told again.
    if (opened) this.sayExplained(null);
  }

  private sayExplained(frameIds: string[] | null): void {
    for (const listener of this.explainedListeners) listener(frameIds);
  }

  private lost(): void {
    if (this.state.phase === "lost") return;
    this.update({ phase: "lost", lostSinceMs: Date.now() }, true);
  }

  /** Take a change in; draw at once, or together with others a little later: a calm page is read more easily. */
  private update(change: Partial<LiveState>, atOnce: boolean): void {
    this.state = { ...this.state, ...change };
    if (atOnce) {
      this.publish();
    } else {
      this.redraw ??= setTimeout(() => this.publish(), REDRAW_MS);
    }
  }

  private publish(): void {
    if (this.redraw !== null) clearTimeout(this.redraw);
    this.redraw = null;
    this.shown = this.state;
    for (const listener of this.listeners) listener();
  }
}
