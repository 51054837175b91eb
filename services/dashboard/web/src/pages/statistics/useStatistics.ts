import { useEffect, useState } from "react";
import { ApiError, fetchShifts, fetchStatistics, type StatisticsQuery } from "../../api/client";
import type { Problem, Shifts, Statistics } from "../../api/types";

export interface Answer<T> {
  /** The last that was answered; what is asked anew replaces it when it is there. */
  value: T | null;
  /** When that was. */
  atMs: number;
  problem: Problem | null;
}

const RETRY_MS = 5_000;

/** The plan of shifts, and the present one; asked again with the minutes. */
export function useShifts(minute: number): Answer<Shifts> {
  return useAnswer(`shifts ${Math.floor(minute / 5)}`, (signal) => fetchShifts(signal));
}

/** Figures, asked again whenever the question changes; null asks nothing. */
export function useStatistics(query: StatisticsQuery | null): Answer<Statistics> {
  return useAnswer(query && JSON.stringify(query), (signal, key) => fetchStatistics(JSON.parse(key) as StatisticsQuery, signal));
}

function useAnswer<T>(key: string | null, ask: (signal: AbortSignal, key: string) => Promise<T>): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T>>({ value: null, atMs: 0, problem: null });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (key === null) return;
    const stop = new AbortController();
    let again = 0;
    ask(stop.signal, key)
      .then((value) => setAnswer({ value, atMs: Date.now(), problem: null }))
      .catch((error: unknown) => {
        if (stop.signal.aborted) return;
        const problem = error instanceof ApiError ? error.problem : { reason: "offline", message: String(error) };
        setAnswer((known) => ({ ...known, problem }));
        again = window.setTimeout(() => setAttempt((count) => count + 1), RETRY_MS);
      });
    return () => {
      stop.abort();
      clearTimeout(again);
    };
    // What is asked is in the key.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [key, attempt]);
  return answer;
}

/** Half minutes since the epoch; a page that shows the present asks anew with each. */
export function useHalfMinute(): number {
  const [now, setNow] = useState(() => Math.floor(Date.now() / 30_000));
  useEffect(() => {
    const timer = setInterval(() => setNow(Math.floor(Date.now() / 30_000)), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
