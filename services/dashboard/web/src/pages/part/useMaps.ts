import { useCallback, useEffect, useMemo, useState } from "react";
import { overlayUrl } from "../../api/client";
import type { Explanation, Part } from "../../api/types";
import { NO_MAP, nextChoice, shownMap, type Choice, type ShownMap } from "./maps";
import { useRequestedMap, type MapRequest } from "./useRequestedMap";

/** The maps of a part and which of them lies over the picture. */
export interface Maps extends MapRequest {
  all: ShownMap[];
  shown: ShownMap | null;
  /** What is spoken of beside the picture: what is shown, else what comes first. */
  focus: Explanation | null;
  opacity: number;
  /** The picture is looked at without its map for a moment. */
  hidden: boolean;
  choose: (method: string) => void;
  setOpacity: (opacity: number) => void;
  hide: (hidden: boolean) => void;
}

export function useMaps(part: Part): Maps {
  // All of these stay from part to part: who compares parts wants to see them in the same way.
  const [choice, setChoice] = useState<Choice>(null);
  const [opacity, setOpacity] = useState(1);
  const [hidden, hide] = useState(false);
  const { frame_id: frameId, verdict } = part.inspection;
  const request = useRequestedMap(frameId);
  const { requested } = request;
  const all = useMemo(() => {
    const { at_ms: atMs } = part.explained;
    const own: ShownMap[] = part.explanations
      .filter((one) => one.has_map)
      .map((one) => ({ explanation: one, url: overlayUrl(frameId, one.method, atMs ?? 0), requested: false }));
    if (!requested?.explanation?.has_map || requested.url === null) return own;
    return [...own, { explanation: requested.explanation, url: requested.url, requested: true }];
  }, [part, frameId, requested]);
  const shown = shownMap(all, choice, verdict);
  const asked = request.ask;
  const choose = useCallback(
    (method: string) => {
      setChoice(method);
      if (method !== NO_MAP && !all.some((one) => one.explanation.method === method)) asked(method);
    },
    [all, asked],
  );
  useMapKeys(() => all.length > 0 && setChoice(nextChoice(all, shown)), hide);
  const focus = shown?.explanation ?? requested?.explanation ?? part.explanations[0] ?? null;
  return { ...request, all, shown, focus, opacity, hidden, choose, setOpacity, hide };
}

/** `M` shows the next map, `H` hides it for as long as it is held. */
function useMapKeys(next: () => void, hide: (hidden: boolean) => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLSelectElement) return;
      const key = event.key.toLowerCase();
      if (key === "h") hide(event.type === "keydown");
      else if (key === "m" && event.type === "keydown" && !event.repeat) next();
    };
    // A key that is let go while another window has the keyboard is never told.
    const show = () => hide(false);
    addEventListener("keydown", onKey);
    addEventListener("keyup", onKey);
    addEventListener("blur", show);
    return () => {
      removeEventListener("keydown", onKey);
      removeEventListener("keyup", onKey);
      removeEventListener("blur", show);
    };
  });
}
