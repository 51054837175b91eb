import { useEffect, useRef, useState } from "react";

/** What an element measures inside, in pixels, so that what is drawn into it keeps the size of its letters. */
export function useSize(): [(element: HTMLDivElement | null) => void, number, number] {
  const [size, setSize] = useState({ width: 300, height: 80 });
  const observer = useRef<ResizeObserver | null>(null);
  const [element, setElement] = useState<HTMLDivElement | null>(null);
  useEffect(() => {
    if (!element) return;
    observer.current = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.current.observe(element);
    return () => observer.current?.disconnect();
  }, [element]);
  return [setElement, size.width, size.height];
}
