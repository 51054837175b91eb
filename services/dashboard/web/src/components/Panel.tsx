import { useId, type ReactNode } from "react";
import type { Verdict } from "../api/types";
import styles from "./Panel.module.css";

/** A titled box beside the picture. */
export function Panel({ title, tone, children }: { title: string; tone?: Verdict; children: ReactNode }) {
  const id = useId();
  return (
    <section className={styles["panel"]} data-tone={tone} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}
