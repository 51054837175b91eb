import { createContext, useContext, useState, type ReactNode } from "react";
import { createPortal } from "react-dom";

interface Slot {
  element: HTMLElement | null;
  setElement: (element: HTMLElement | null) => void;
}

const SlotContext = createContext<Slot>({ element: null, setElement: () => undefined });

/** Lets a page put its own tools into the header, which has the room that the page would lose. */
export function HeaderToolsProvider({ children }: { children: ReactNode }) {
  const [element, setElement] = useState<HTMLElement | null>(null);
  return <SlotContext value={{ element, setElement }}>{children}</SlotContext>;
}

/** Where the header shows them. */
export function HeaderToolsSlot({ className }: { className?: string | undefined }) {
  const { setElement } = useContext(SlotContext);
  return <div ref={setElement} className={className} />;
}

/** What the page shows there. */
export function HeaderTools({ children }: { children: ReactNode }) {
  const { element } = useContext(SlotContext);
  return element && createPortal(children, element);
}
