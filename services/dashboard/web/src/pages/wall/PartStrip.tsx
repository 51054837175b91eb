import { useEffect, useState } from "react";
import type { Inspection } from "../../api/types";
import { PartThumb } from "../../components/PartThumb";
import styles from "./PartStrip.module.css";

const THUMB_PX = 48;
const GAP_PX = 4;

interface Props {
  title: string;
  /** Newest first. */
  parts: Inspection[];
  rows: number;
  none?: string;
}

/** As many parts as fit; what does not fit is not there, for the keyboard neither. */
export function PartStrip({ title, parts, rows, none = "" }: Props) {
  const [element, setElement] = useState<HTMLUListElement | null>(null);
  const [columns, setColumns] = useState(6);
  const [held, setHeld] = useState<Inspection[] | null>(null);
  useEffect(() => {
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setColumns(Math.max(1, Math.floor((entry.contentRect.width + GAP_PX) / (THUMB_PX + GAP_PX))));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  const shown = (held ?? parts).slice(0, columns * rows);
  return (
    <>
      <h4 className={styles["title"]}>{title}</h4>
      {/* Held still while a person points at it or moves through it: a target must not run away. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- it only stops moving */}
      <ul className={styles["strip"]} ref={setElement} onPointerEnter={() => setHeld(parts)} onPointerLeave={() => setHeld(null)}
        onFocus={() => setHeld(held ?? parts)} onBlur={(event) => !event.currentTarget.contains(event.relatedTarget) && setHeld(null)}>
        {shown.length === 0 && <li className={styles["none"]}>{none}</li>}
        {shown.map((part) => (
          <li key={part.frame_id}>
            <PartThumb part={part} />
          </li>
        ))}
      </ul>
    </>
  );
}
