import { useState } from "react";
import { ApiError } from "../../api/client";
import { useI18n } from "../../i18n";
import { useStation } from "../../review/hooks";
import { problemText } from "../../training/words";

export interface Action {
  sending: boolean;
  /** Why the last one failed, for people; null where it did not. */
  problem: string | null;
  /** Do something in the person's name; whoever has none is asked for it first. */
  run: (work: (actor: string) => Promise<unknown>) => void;
}

/** Something that changes a run or a model, one at a time. */
export function useAction(onName: () => void, onChanged: () => void): Action {
  const { t } = useI18n();
  const { reviewer } = useStation();
  const [sending, setSending] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const run = (work: (actor: string) => Promise<unknown>) => {
    if (reviewer === null) return onName();
    if (sending) return;
    setSending(true);
    setProblem(null);
    work(reviewer).then(
      () => {
        setSending(false);
        onChanged();
      },
      (error: unknown) => {
        setSending(false);
        setProblem(error instanceof ApiError ? problemText(error.problem, t) : String(error));
        // Somebody else may have been faster: then it is shown as it is.
        if (error instanceof ApiError && error.status === 409) onChanged();
      },
    );
  };
  return { sending, problem, run };
}
