import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { QueuedCase } from "../../api/types";
import type { Said } from "../../review/answers";
import { suggestedClasses } from "../../review/classes";
import type { Draft, DraftFields } from "../../review/drafts";
import { useReviewStation } from "../../review/hooks";
import { EMPTY, type Drawing } from "../../review/mask";

interface State {
  caseId: string;
  open: boolean;
  fields: Omit<DraftFields, "strokes">;
  drawing: Drawing;
  /** They keep their places for as long as the correction is open: none moves under a finger. */
  classes: readonly string[];
}

/** Two presses closer together are one press of a stiff glove, which must not take back what it chose. */
const BOUNCE_MS = 300;

export interface Correction {
  open: boolean;
  /** What would be sent now; null where no correction was begun. */
  draft: Draft | null;
  drawing: Drawing;
  /** Classes to choose from with one press. */
  classes: readonly string[];
  begin: (said: Said) => void;
  /** Leave it without sending; what was drawn stays with the case. */
  back: () => void;
  /** It was sent. */
  close: () => void;
  change: (fields: Partial<DraftFields>) => void;
  /** Choose a class, or leave it open again. */
  name: (defectClass: string) => void;
  draw: (drawing: Drawing) => void;
}

/** The correction of the case on screen; each change of it is kept on this browser until it was sent. */
export function useCorrection(one: QueuedCase): Correction {
  const station = useReviewStation();
  const { drafts } = station;
  const { case_id: caseId } = one;
  const [state, setState] = useState<State | null>(null);
  const mine = state?.caseId === caseId ? state : null;
  const named = useRef({ name: "", atMs: -BOUNCE_MS });
  const classesFor = useCallback(
    (said: Said) => {
      const { turns, trail } = station.read();
      return suggestedClasses(one, said, turns, trail.cases);
    },
    [station, one],
  );
  useEffect(() => {
    let here = true;
    void drafts.load(caseId).then((draft) => {
      // What is being drawn is newer than what was kept.
      if (here && draft) setState((now) => (now?.caseId === caseId ? now : restored(draft, classesFor(draft.said))));
    });
    return () => {
      here = false;
    };
  }, [drafts, caseId, classesFor]);
  const change = ({ strokes, ...fields }: Partial<DraftFields>) => {
    if (!mine) return;
    keep({ ...mine, fields: { ...mine.fields, ...fields }, drawing: strokes ? { strokes, undone: [] } : mine.drawing });
  };
  const keep = (next: State) => {
    setState(next);
    drafts.save(caseId, { ...next.fields, strokes: next.drawing.strokes });
  };
  const draft = useMemo(() => mine && draftOf(mine), [mine]);
  return {
    open: mine?.open ?? false,
    draft,
    drawing: mine?.drawing ?? EMPTY,
    classes: mine?.classes ?? NO_CLASSES,
    begin: (said) => {
      // No class is filled in: whoever sends at once would put a word on record that was never theirs.
      const fresh = { fields: { said, defectClass: "", note: "", asArea: false }, drawing: EMPTY };
      const { fields, drawing } = mine ?? fresh;
      setState({ caseId, open: true, fields: { ...fields, said }, drawing, classes: classesFor(said) });
    },
    back: () => {
      if (!mine) return;
      setState({ ...mine, open: false });
      if (mine.drawing.strokes.length === 0 && mine.fields.note === "") void drafts.remove(caseId);
      else void drafts.flush();
    },
    close: useCallback(() => setState(null), []),
    change,
    name: (defectClass) => {
      const atMs = performance.now();
      const bounced = named.current.name === defectClass && atMs - named.current.atMs < BOUNCE_MS;
      named.current = { name: defectClass, atMs };
      if (!bounced) change({ defectClass: mine?.fields.defectClass === defectClass ? "" : defectClass });
    },
    draw: (drawing) => {
      if (!mine) return;
      keep({ ...mine, drawing });
      // A stroke is work: it does not wait until the hand rests.
      void drafts.flush();
    },
  };
}

function draftOf({ caseId, fields, drawing }: State): Draft {
  return { ...fields, caseId, strokes: drawing.strokes, savedAtMs: Date.now() };
}

const NO_CLASSES: readonly string[] = [];

function restored({ caseId, said, defectClass, note, asArea, strokes }: Draft, classes: readonly string[]): State {
  return { caseId, open: true, fields: { said, defectClass, note, asArea }, drawing: { strokes, undone: [] }, classes };
}
