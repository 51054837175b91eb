import { useId, useRef } from "react";
import type { Component } from "../api/types";
import { hasMessage, useI18n, type Translate } from "../i18n";
import type { Formats } from "../i18n/format";
import { asOf, type Connection } from "../live/connection";
import { useConnection, useLive, useServerNow } from "../live/hooks";
import styles from "./ConnectionPill.module.css";
import { useDismiss } from "./useDismiss";

/** How the line is, in one phrase; a press shows each of its parts. */
export function ConnectionPill() {
  const { t, format } = useI18n();
  const connection = useConnection();
  const wrap = useRef<HTMLDivElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useDismiss(wrap, opener);
  const panelId = useId();
  const phrase = phraseOf(connection, t, format);
  return (
    <div className={styles["wrap"]} ref={wrap}>
      <button type="button" ref={opener} className={styles["pill"]} data-level={connection.level} data-testid="connection"
        aria-expanded={open} aria-controls={panelId} onClick={() => setOpen(!open)}
        aria-label={`${t("connection.label")}: ${phrase}`}>
        <span className={styles["dot"]} />
        <span>{phrase}</span>
      </button>
      {/* Spoken when it changes in kind, not with every second that passes. */}
      <span className="visually-hidden" role="status">
        {connection.kind === "silent" ? "" : phrase}
      </span>
      <div id={panelId}>{open && <ComponentList />}</div>
    </div>
  );
}

function ComponentList() {
  const { t, format } = useI18n();
  const { wall } = useLive();
  const nowMs = useServerNow();
  return (
    <ul className={styles["panel"]}>
      {(wall?.components ?? []).map((reading) => {
        const one = asOf(reading, nowMs);
        const checked =
          one.checked_at_ms === 0
            ? t("component.never")
            : t("component.checked", { age: format.age((nowMs - one.checked_at_ms) / 1000) });
        return (
          <li key={one.name} className={styles["item"]}>
            <span className={styles["dot"]} data-state={one.state} />
            <strong>{componentName(one, t)}</strong>
            <span className={styles["state"]}>
              {t(`component.state.${one.state}`, { time: format.since(one.since_ms) })}
            </span>
            <span className={styles["small"]}>
              {checked}
              {one.detail && ` · ${one.detail}`}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

export function phraseOf(connection: Connection, t: Translate, format: Formats): string {
  switch (connection.kind) {
    case "silent":
      return t("connection.silent", { age: format.age(connection.ageS) });
    case "page_offline":
      return t("connection.page_offline", { time: format.since(connection.sinceMs) });
    case "component": {
      const { component } = connection;
      const name = componentName(component, t);
      if (component.checked_at_ms === 0) return t("connection.component.never", { name });
      const state = component.state === "up" ? "unknown" : component.state;
      return t(`connection.component.${state}`, { name, time: format.since(component.since_ms) });
    }
    default:
      return t(`connection.${connection.kind}`);
  }
}

function componentName(component: Component, t: Translate): string {
  const key = `component.${component.name}`;
  return hasMessage(key) ? t(key) : component.name;
}
