import { useCallback, useMemo } from "react";
import { overlayUrl } from "../../api/client";
import type { Explanation, Part } from "../../api/types";
import { NO_MAP, type ShownMap } from "../../components/maps";
import { useMapChoice, type MapChoice } from "../../components/useMapChoice";
import { useRequestedMap, type MapRequest } from "./useRequestedMap";

/** The maps of a part and which of them lies over the picture. */
export interface Maps extends MapChoice, MapRequest {
  /** What is spoken of beside the picture: what is shown, else what comes first. */
  focus: Explanation | null;
}

export function useMaps(part: Part): Maps {
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
  const maps = useMapChoice(all, verdict);
  const { choose: show } = maps;
  const asked = request.ask;
  const choose = useCallback(
    (method: string) => {
      show(method);
      if (method !== NO_MAP && !all.some((one) => one.explanation.method === method)) asked(method);
    },
    [all, asked, show],
  );
  const focus = maps.shown?.explanation ?? requested?.explanation ?? part.explanations[0] ?? null;
  return { ...request, ...maps, choose, focus };
}
