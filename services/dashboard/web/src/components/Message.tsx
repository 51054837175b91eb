import type { ReactNode } from "react";
import styles from "./Message.module.css";

/** A page that has nothing else to show: empty, loading or broken. */
export function Message({ title, text, children }: { title: string; text?: string; children?: ReactNode }) {
  return (
    <section className={styles["message"]} role="status">
      <svg className={styles["sight"]} width="72" height="72" viewBox="0 0 32 32" fill="none" stroke="currentColor"
        strokeWidth="1.6" strokeLinecap="round" aria-hidden="true">
        <path d="M4 16h7M21 16h7M16 4v5M16 23v5" />
        <circle cx="16" cy="16" r="6.2" />
      </svg>
      <h1>{title}</h1>
      {text !== undefined && <p>{text}</p>}
      {children !== undefined && <div className={styles["actions"]}>{children}</div>}
    </section>
  );
}
