import { useEffect, useState } from "react";
import { ApiError } from "../api/client";
import { fetchRun, progressUrl, type Run } from "../api/training";
import type { Problem } from "../api/types";
import { hasEnded } from "./run";

export interface FollowedRun {
  /** As it was when last told; null before that. */
  run: Run | null;
  /** Why it is not known how it is now; null while it is. */
  problem: Problem | null;
}

const RETRY_MS = 3_000;
/** One that has ended may be resumed, or rolled back, by somebody else. */
const ENDED_MS = 20_000;

/** Follow a run: told of every change while it goes on, asked about now and then once it has ended. */
export function useRun(runId: string, turn = 0): FollowedRun {
  const [followed, setFollowed] = useState<FollowedRun & { runId: string }>({ run: null, problem: null, runId });
  useEffect(() => {
    const stop = followRun(runId, (change) =>
      setFollowed((before) => ({ ...(before.runId === runId ? before : { run: null, problem: null }), ...change, runId })),
    );
    return stop;
  }, [runId, turn]);
  return followed.runId === runId ? followed : { run: null, problem: null };
}

/** Begin to follow a run; gives what ends that. */
export function followRun(runId: string, tell: (change: Partial<FollowedRun>) => void): () => void {
  const abort = new AbortController();
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;

  const later = (waitMs: number) => {
    source?.close();
    source = null;
    if (timer !== null) clearTimeout(timer);
    timer = abort.signal.aborted ? null : setTimeout(look, waitMs);
  };
  /** Ask once: why a stream was refused, only an answer tells. */
  const look = () => {
    fetchRun(runId, abort.signal).then(
      (run) => {
        if (abort.signal.aborted) return;
        tell({ run, problem: null });
        if (hasEnded(run)) later(ENDED_MS);
        else listen();
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error.problem : { reason: "offline", message: String(error) };
        tell({ problem });
        if (problem.reason !== "not_found" && problem.reason !== "invalid_input") later(RETRY_MS);
      },
    );
  };
  const listen = () => {
    const opened = new EventSource(progressUrl(runId));
    source = opened;
    opened.addEventListener("run", (event: MessageEvent<string>) => {
      if (source === opened) tell({ run: JSON.parse(event.data) as Run, problem: null });
    });
    opened.addEventListener("end", () => source === opened && later(ENDED_MS));
    opened.addEventListener("bye", () => source === opened && later(1_000));
    opened.addEventListener("failed", (event: MessageEvent<string>) => {
      if (source !== opened) return;
      const { error } = JSON.parse(event.data) as { error: Problem };
      // Where too many follow runs this one asks now and then instead.
      if (error.reason !== "busy") tell({ problem: error });
      later(RETRY_MS);
    });
    opened.onerror = () => {
      if (source !== opened) return;
      tell({ problem: { reason: "offline", message: "the server did not answer" } });
      later(RETRY_MS);
    };
  };
  look();
  return () => {
    abort.abort();
    later(0);
  };
}
