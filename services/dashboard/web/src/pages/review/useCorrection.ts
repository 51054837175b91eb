import { useCallback, useEffect, useMemo, useState } from "react";
import type { QueuedCase } from "../../api/types";
import type { Said } from "../../review/answers";
import type { Draft, DraftFields } from "../../review/drafts";
import { useReviewStation } from "../../review/hooks";
import { EMPTY, type Drawing } from "../../review/mask";

interface State {
  caseId: string;
  open: boolean;
  fields: Omit<DraftFields, "strokes">;
  drawing: Drawing;
}

export interface Correction {
  open: boolean;
  /** What would be sent now; null where no correction was begun. */
  draft: Draft | null;
  drawing: Drawing;
  begin: (said: Said) => void;
  /** Leave it without sending; what was drawn stays with the case. */
  back: () => void;
  /** It was sent. */
  close: () => void;
  change: (fields: Partial<DraftFields>) => void;
  draw: (drawing: Drawing) => void;
}

/** The correction of the case on screen; each change of it is kept on this browser until it was sent. */
export function useCorrection(one: QueuedCase): Correction {
  const { drafts } = useReviewStation();
  const { case_id: caseId, inspection } = one;
  const [state, setState] = useState<State | null>(null);
  const mine = state?.caseId === caseId ? state : null;
  useEffect(() => {
    let here = true;
    void drafts.load(caseId).then((draft) => {
      // What is being drawn is newer than what was kept.
      if (here && draft) setState((now) => (now?.caseId === caseId ? now : restored(draft)));
    });
    return () => {
      here = false;
    };
  }, [drafts, caseId]);
  const keep = (next: State) => {
    setState(next);
    drafts.save(caseId, { ...next.fields, strokes: next.drawing.strokes });
  };
  const draft = useMemo(() => mine && draftOf(mine), [mine]);
  return {
    open: mine?.open ?? false,
    draft,
    drawing: mine?.drawing ?? EMPTY,
    begin: (said) => {
      // The model's own class is right more often than an empty field, where the model found the defect at all.
      const defectClass = inspection.verdict === "pass" ? "" : inspection.defect_class;
      const fresh = { fields: { said, defectClass, note: "", asArea: false }, drawing: EMPTY };
      const { fields, drawing } = mine ?? fresh;
      setState({ caseId, open: true, fields: { ...fields, said }, drawing });
    },
    back: () => {
      if (!mine) return;
      setState({ ...mine, open: false });
      if (mine.drawing.strokes.length === 0 && mine.fields.note === "") void drafts.remove(caseId);
      else void drafts.flush();
    },
    close: useCallback(() => setState(null), []),
    change: ({ strokes, ...fields }) => {
      if (!mine) return;
      keep({ ...mine, fields: { ...mine.fields, ...fields }, drawing: strokes ? { strokes, undone: [] } : mine.drawing });
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

function restored({ caseId, said, defectClass, note, asArea, strokes }: Draft): State {
  return { caseId, open: true, fields: { said, defectClass, note, asArea }, drawing: { strokes, undone: [] } };
}
