import { useMemo, useState } from "react";
import { fetchNotices, type Notice } from "../api/training";
import { useAsked } from "../models/useAsked";
import { dismiss, markOf, readSeen, unseen } from "./notices";

const EVERY_MS = 30_000;

/** What somebody should know of runs that carry their answers, until they dismiss it. */
export function useNotices(reviewer: string | null): { notices: Notice[]; onDismiss: (notice: Notice) => void } {
  const [seen, setSeen] = useState(readSeen);
  const ask = useMemo(() => patiently(reviewer), [reviewer]);
  const { value } = useAsked(ask, EVERY_MS);
  if (reviewer === null || value === null) return { notices: [], onDismiss: () => undefined };
  return {
    notices: unseen(value, reviewer, seen),
    onDismiss: (notice) => setSeen(dismiss(markOf(notice, reviewer), seen)),
  };
}

/** A trainer that is away is no reason to disturb whoever reviews: what was told stays, and is asked for again. */
function patiently(reviewer: string | null): (signal: AbortSignal) => Promise<Notice[]> {
  let known: Notice[] = [];
  return async (signal) => {
    try {
      if (reviewer !== null) known = await fetchNotices(reviewer, signal);
    } catch (error) {
      if (signal.aborted) throw error;
    }
    return known;
  };
}
