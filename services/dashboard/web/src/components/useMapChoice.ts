import { useEffect, useState } from "react";
import type { Verdict } from "../api/types";
import { nextChoice, shownMap, type Choice, type ShownMap } from "./maps";

/** The maps of a part, which of them lies over the picture, and how. */
export interface MapChoice {
  all: ShownMap[];
  shown: ShownMap | null;
  opacity: number;
  /** The picture is looked at without its map for a moment. */
  hidden: boolean;
  choose: (method: string) => void;
  setOpacity: (opacity: number) => void;
  hide: (hidden: boolean) => void;
}

/** All of these stay from part to part: who compares parts wants to see them in the same way. */
export function useMapChoice(all: ShownMap[], verdict: Verdict): MapChoice {
  const [choice, choose] = useState<Choice>(null);
  const [opacity, setOpacity] = useState(1);
  const [hidden, hide] = useState(false);
  const shown = shownMap(all, choice, verdict);
  useMapKeys(() => all.length > 0 && choose(nextChoice(all, shown)), hide);
  return { all, shown, opacity, hidden, choose, setOpacity, hide };
}

/** Whether what is typed belongs to a field. */
export function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  if (target instanceof HTMLInputElement) return !["range", "radio", "checkbox", "button"].includes(target.type);
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

/** `M` shows the next map, `H` hides it for as long as it is held. */
function useMapKeys(next: () => void, hide: (hidden: boolean) => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
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
