import { useState } from "react";
import { readChoice, storeChoice } from "../../theme/choice";

/** Whether a defect is asked about before its answer goes out; remembered in this browser. */
export function useAskFirst(): [boolean, (ask: boolean) => void] {
  const [ask, setAsk] = useState(() => readChoice("correction") !== "at_once");
  const choose = (next: boolean) => {
    storeChoice("correction", next ? "ask" : "at_once");
    setAsk(next);
  };
  return [ask, choose];
}
