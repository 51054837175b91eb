import { useEffect, useState } from "react";
import { ApiError } from "../api/client";
import type { Problem } from "../api/types";

export interface Asked<T> {
  value: T | null;
  problem: Problem | null;
}

/**
 * Ask, and ask again: what is there stays on screen while it is asked for anew.
 *
 * @param ask Must stay the same function for the same question; another one is another question.
 * @param everyMs Time between two tries; null asks once, and again only after a problem.
 */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, everyMs: number | null): Asked<T> & { again: () => void } {
  const [asked, setAsked] = useState<Asked<T> & { ask: typeof ask | null }>({ value: null, problem: null, ask: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | null = null;
    const later = (ms: number) => {
      timer = setTimeout(read, ms);
    };
    const read = () => {
      ask(abort.signal).then(
        (value) => {
          setAsked({ value, problem: null, ask });
          if (everyMs !== null) later(everyMs);
        },
        (error: unknown) => {
          if (abort.signal.aborted) return;
          const problem = error instanceof ApiError ? error.problem : { reason: "offline", message: String(error) };
          setAsked((before) => ({ value: before.ask === ask ? before.value : null, problem, ask }));
          // What is not there, or not readable, does not come by asking again soon.
          const lasting = ["not_found", "invalid_input", "model_format"].includes(problem.reason);
          if (!lasting) later(RETRY_MS);
        },
      );
    };
    read();
    return () => {
      abort.abort();
      if (timer !== null) clearTimeout(timer);
    };
  }, [ask, everyMs, turn]);
  const current = asked.ask === ask;
  return { value: current ? asked.value : null, problem: current ? asked.problem : null, again: () => setTurn((one) => one + 1) };
}

const RETRY_MS = 4_000;
