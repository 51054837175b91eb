import { useCallback, useEffect, useEffectEvent, useReducer, useState } from "react";
import { fetchCases, fetchCounts, findCases } from "../api/gallery";
import { ApiError } from "../api/client";
import type { Problem, QueuedCase, QueueStats } from "../api/types";
import { allOf, writeView, type View } from "./filter";

const PAGE = 60;
const LOOK_MS = 8_000;

interface Loaded {
  /** Of which view; what belongs to another one is not shown. */
  key: string;
  cases: QueuedCase[];
  /** For the next page; null where nothing follows. */
  next: string | null;
  /** Something is on its way. */
  loading: boolean;
  problem: Problem | null;
  /** Found more than is given. */
  more: boolean;
}

type Change =
  | { kind: "begin"; key: string }
  | { kind: "asked" }
  | { kind: "page"; key: string; cases: QueuedCase[]; next: string | null; more: boolean }
  | { kind: "failed"; key: string; problem: Problem }
  | { kind: "changed"; by: ReadonlyMap<string, (one: QueuedCase) => QueuedCase> };

const EMPTY: Loaded = { key: "", cases: [], next: null, loading: true, problem: null, more: false };

function reduce(state: Loaded, change: Change): Loaded {
  switch (change.kind) {
    case "begin":
      return { ...EMPTY, key: change.key };
    case "asked":
      return { ...state, loading: true, problem: null };
    case "page": {
      if (change.key !== state.key) return state;
      // A page that was asked for twice adds nothing.
      const known = new Set(state.cases.map((one) => one.case_id));
      const cases = [...state.cases, ...change.cases.filter((one) => !known.has(one.case_id))];
      return { ...state, cases, next: change.next, more: change.more, loading: false, problem: null };
    }
    case "failed":
      return change.key === state.key ? { ...state, loading: false, problem: change.problem } : state;
    case "changed":
      return { ...state, cases: state.cases.map((one) => change.by.get(one.case_id)?.(one) ?? one) };
  }
}

export interface Cases extends Loaded {
  /** Counts of the filter, whatever the state; null until they are there, and while an id is looked for. */
  counts: QueueStats | null;
  /** Cases that came since these were loaded. */
  arrived: number;
  loadMore: () => void;
  reload: () => void;
  change: (by: ReadonlyMap<string, (one: QueuedCase) => QueuedCase>) => void;
}

/** The cases of a view, a page at a time. What arrives meanwhile moves nothing: it is only counted. */
export function useCases(view: View): Cases {
  const [state, dispatch] = useReducer(reduce, EMPTY);
  const [round, setRound] = useState(0);
  const address = writeView(view).toString();
  const key = `${round}?${address}`;
  const ask = useEffectEvent(async (after: string | null, signal: AbortSignal) => {
    try {
      if (view.find !== "") {
        const { cases, more } = await findCases(view.find, signal);
        dispatch({ kind: "page", key, cases, next: null, more });
      } else {
        const page = await fetchCases(view.filter, view.order, after, PAGE, signal);
        dispatch({ kind: "page", key, cases: page.cases, next: page.next, more: false });
      }
    } catch (error) {
      if (!signal.aborted) dispatch({ kind: "failed", key, problem: problemOf(error) });
    }
  });
  const [wanted, setWanted] = useState<{ key: string; after: string | null; count: number }>({ key: "", after: null, count: 0 });
  useEffect(() => {
    const abort = new AbortController();
    dispatch({ kind: "begin", key });
    void ask(null, abort.signal);
    return () => abort.abort();
  }, [key]);
  useEffect(() => {
    if (wanted.count === 0 || wanted.key !== key) return;
    const abort = new AbortController();
    void ask(wanted.after, abort.signal);
    return () => abort.abort();
  }, [wanted, key]);
  const { loading, next, key: loadedKey, cases, problem } = state;
  const loadMore = useCallback(() => {
    // After a failure the first page is asked for again where none is there.
    if (loading || (next === null && !(problem !== null && cases.length === 0))) return;
    dispatch({ kind: "asked" });
    setWanted(({ count }) => ({ key: loadedKey, after: next, count: count + 1 }));
  }, [loading, next, loadedKey, problem, cases.length]);
  const reload = useCallback(() => setRound((count) => count + 1), []);
  const change = useCallback((by: ReadonlyMap<string, (one: QueuedCase) => QueuedCase>) => dispatch({ kind: "changed", by }), []);
  const { counts, arrived } = useCounts(view, key);
  return { ...(state.key === key ? state : EMPTY), counts, arrived, loadMore, reload, change };
}

interface Counts {
  key: string;
  first: QueueStats;
  latest: QueueStats;
}

function grown(before: Counts | null, { key, latest }: { key: string; latest: QueueStats }): Counts {
  return { key, first: before?.key === key ? before.first : latest, latest };
}

/** Counts of a view's filter, looked at again every now and then, and by how many they have grown. */
function useCounts(view: View, key: string): { counts: QueueStats | null; arrived: number } {
  const [known, note] = useReducer(grown, null);
  const look = useEffectEvent(async (signal: AbortSignal) => {
    if (view.find !== "" || document.visibilityState === "hidden") return;
    try {
      const latest = await fetchCounts(view.filter, signal);
      note({ key, latest });
    } catch {
      // The cases themselves say what is wrong.
    }
  });
  useEffect(() => {
    const abort = new AbortController();
    void look(abort.signal);
    const timer = setInterval(() => void look(abort.signal), LOOK_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [key]);
  if (known?.key !== key || view.find !== "") return { counts: null, arrived: 0 };
  // A new case is open; whoever looks at another state does not wait for it.
  const open = view.filter.state === "" || view.filter.state === "open";
  return { counts: known.latest, arrived: open ? Math.max(0, allOf(known.latest) - allOf(known.first)) : 0 };
}

export function problemOf(error: unknown): Problem {
  return error instanceof ApiError ? error.problem : { reason: "error", message: String(error) };
}
