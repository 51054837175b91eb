import { useLayoutEffect } from "react";
import { isTyping } from "../../components/useMapChoice";
import { commandOf, type Said } from "../../review/answers";
import { CLASS_KEYS } from "../../review/classes";
import { useReviewStation } from "../../review/hooks";
import type { DrawingTools } from "./useDrawing";

interface Actions {
  listening: boolean;
  correcting: boolean;
  say: (said: Said) => void;
  send: () => void;
  back: () => void;
  /** A class by the number of its button. */
  name: (number: number) => void;
  toggleMap: () => void;
  drawing: DrawingTools;
  onAnswers: () => void;
  onCompare: () => void;
}

/** The keyboard of the station. Fields keep what is typed into them, apart from Enter and Esc. */
export function useReviewKeys(actions: Actions): void {
  const station = useReviewStation();
  // Before the browser paints: a key pressed on sight of a case must not be taken for the case before.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || !actions.listening) return;
      const handled = actions.correcting ? correct(event) : decide(event);
      if (handled) event.preventDefault();
    };
    const decide = (event: KeyboardEvent): boolean => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || isPressing(event)) return false;
      const command = commandOf(event.key);
      if (!command || (isSlider(event) && event.key.startsWith("Arrow"))) return false;
      // A key that is held down means what it meant once.
      if (event.repeat) return true;
      if (command.kind === "say") actions.say(command.said);
      else if (command.kind === "skip") station.skip();
      else if (command.kind === "undo") void station.undoLast();
      else if (command.kind === "previous") station.walk(-1);
      else if (command.kind === "next") station.walk(1);
      else if (command.kind === "toggle_map") actions.toggleMap();
      else if (command.kind === "compare") actions.onCompare();
      else actions.onAnswers();
      return true;
    };
    const correct = (event: KeyboardEvent): boolean => {
      if (event.key === "Escape") {
        actions.back();
        return true;
      }
      if (event.key === "Enter" && !isPressing(event) && !event.shiftKey && !event.isComposing) {
        if (event.repeat) return true;
        if (!actions.drawing.closePolygon()) actions.send();
        return true;
      }
      if (isTyping(event)) return false;
      if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
        if (event.shiftKey) actions.drawing.redo();
        else actions.drawing.undo();
        return true;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || isPressing(event)) return false;
      if (event.key === " ") {
        if (!event.repeat) actions.toggleMap();
        return true;
      }
      const number = CLASS_KEYS.findIndex((key) => key === event.key);
      if (number < 0) return actions.drawing.key(event.key.toLowerCase());
      if (!event.repeat) actions.name(number);
      return true;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

/** Enter and Space press a button that has the keyboard. */
function isPressing(event: KeyboardEvent): boolean {
  if (event.key !== " " && event.key !== "Enter") return false;
  return event.target instanceof Element && event.target.closest("button, a, summary, input[type=checkbox]") !== null;
}

function isSlider(event: KeyboardEvent): boolean {
  return event.target instanceof HTMLInputElement && event.target.type === "range";
}
