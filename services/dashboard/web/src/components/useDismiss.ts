import { useEffect, useState, type RefObject } from "react";

/**
 * Whether something that opens over the page is open: a press elsewhere or Escape closes it, and so does the keyboard
 * when it moves on.
 *
 * @param wrap What holds it and the button that opens it.
 * @param opener That button, which has the keyboard again after Escape.
 */
export function useDismiss(wrap: RefObject<HTMLElement | null>, opener: RefObject<HTMLElement | null>): [boolean, (open: boolean) => void] {
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (!open) return;
    const onElsewhere = (event: Event) => {
      if (event.target instanceof Node && !wrap.current?.contains(event.target)) setOpen(false);
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      // It closes this alone: to the page below, Escape may mean to leave.
      event.stopPropagation();
      setOpen(false);
      opener.current?.focus();
    };
    addEventListener("pointerdown", onElsewhere);
    addEventListener("focusin", onElsewhere);
    addEventListener("keydown", onKey, { capture: true });
    return () => {
      removeEventListener("pointerdown", onElsewhere);
      removeEventListener("focusin", onElsewhere);
      removeEventListener("keydown", onKey, { capture: true });
    };
  }, [open, wrap, opener]);
  return [open, setOpen];
}
