import { useState } from "react";
import { ApiError } from "../api/client";
import { useI18n } from "../i18n";
import { useReviewStation, useStation } from "../review/hooks";
import { problemText } from "./words";

export interface NamedAction {
  sending: boolean;
  /** Why the last one failed, for people; null where it did not. */
  problem: string | null;
  /** Whoever does it has not said who they are yet. */
  naming: boolean;
  /** Do it, or ask for a name first. */
  press: () => void;
  /** Do it in this name, which this browser keeps. */
  name: (person: string) => void;
  cancel: () => void;
}

/** Something that is done in a person's name; where nobody signs in and no name is known, it is asked for in place. */
export function useNamedAction(work: (person: string) => Promise<unknown>): NamedAction {
  const { t } = useI18n();
  const station = useReviewStation();
  const { reviewer } = useStation();
  const [state, setState] = useState({ sending: false, naming: false, problem: null as string | null });
  const run = (person: string) => {
    if (state.sending) return;
    setState({ sending: true, naming: false, problem: null });
    work(person).then(
      () => setState({ sending: false, naming: false, problem: null }),
      (error: unknown) => {
        const why = error instanceof ApiError ? problemText(error.problem, t) : String(error);
        setState({ sending: false, naming: false, problem: why });
      },
    );
  };
  return {
    ...state,
    press: () => (reviewer === null ? setState({ ...state, naming: true }) : run(reviewer)),
    name: (person) => {
      station.setReviewer(person);
      run(person);
    },
    cancel: () => setState({ ...state, naming: false }),
  };
}
