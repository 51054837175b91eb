import { useCallback, useEffect, useRef, useState } from "react";
import { explainUrl } from "../../api/client";
import type { ExplainStep, Explanation, Problem } from "../../api/types";

/** A map made on request: on its way, finished, or failed. */
export interface RequestedMap {
  frameId: string;
  method: string;
  phase: "running" | "done" | "failed";
  /** The map so far. */
  explanation: Explanation | null;
  url: string | null;
  problem: Problem | null;
}

export interface MapRequest {
  /** What was asked for this frame; null where nothing was. */
  requested: RequestedMap | null;
  ask: (method: string) => void;
  stop: () => void;
}

/** Ask for maps of a frame, one at a time. Leaving the frame, asking for another and stopping all end the work. */
export function useRequestedMap(frameId: string): MapRequest {
  const [state, setState] = useState<RequestedMap | null>(null);
  const source = useRef<EventSource | null>(null);
  const shownUrl = useRef<string | null>(null);
  const end = useCallback(() => {
    source.current?.close();
    source.current = null;
  }, []);
  const forget = useCallback(() => {
    end();
    if (shownUrl.current !== null) URL.revokeObjectURL(shownUrl.current);
    shownUrl.current = null;
  }, [end]);
  useEffect(() => forget, [frameId, forget]);

  const ask = useCallback(
    (method: string) => {
      forget();
      const opened = new EventSource(explainUrl(frameId, method));
      source.current = opened;
      const change = (fresh: Partial<RequestedMap>) => {
        if (source.current === opened) setState((now) => (now === null ? null : { ...now, ...fresh }));
      };
      const fail = (problem: Problem) => {
        change({ phase: "failed", problem });
        if (source.current === opened) end();
      };
      setState({ frameId, method, phase: "running", explanation: null, url: null, problem: null });
      opened.addEventListener("step", (event: MessageEvent<string>) => {
        if (source.current !== opened) return;
        const step = JSON.parse(event.data) as ExplainStep;
        const before = shownUrl.current;
        shownUrl.current = step.png === "" ? null : pictureUrl(step.png);
        change({ explanation: step.explanation, url: shownUrl.current });
        // The picture before is still drawn until the next one is decoded.
        if (before !== null) setTimeout(() => URL.revokeObjectURL(before), 2_000);
      });
      opened.addEventListener("end", () => {
        change({ phase: "done" });
        end();
      });
      opened.addEventListener("failed", (event: MessageEvent<string>) => {
        fail((JSON.parse(event.data) as { error: Problem }).error);
      });
      opened.onerror = () => fail({ reason: "offline", message: "the server did not answer" });
    },
    [frameId, forget, end],
  );
  const stop = useCallback(() => {
    end();
    setState((now) => (now?.explanation ? { ...now, phase: "done" } : null));
  }, [end]);
  return { requested: state?.frameId === frameId ? state : null, ask, stop };
}

function pictureUrl(base64: string): string {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}
