import type { Component } from "../api/types";

export type StreamPhase = "connecting" | "open" | "lost";

export type ConnectionLevel = "ok" | "warn" | "bad";

/** What is said of the line's connection, worst news first. */
export type Connection =
  | { level: "ok"; kind: "live" }
  | { level: "warn"; kind: "connecting" | "waiting" }
  | { level: "warn"; kind: "silent"; ageS: number }
  | { level: "bad"; kind: "page_offline"; sinceMs: number }
  | { level: "warn" | "bad"; kind: "component"; component: Component };

export interface ConnectionInput {
  phase: StreamPhase;
  lostSinceMs: number;
  components: Component[];
  lastDecidedMs: number | null;
  nowMs: number;
  staleS: number;
}

/** A reading older than this says nothing of the present. */
const READING_STALE_MS = 15_000;

/** Judge the connection from what is known now; never "live" on old news. */
export function judge(input: ConnectionInput): Connection {
  if (input.phase === "lost") return { level: "bad", kind: "page_offline", sinceMs: input.lostSinceMs };
  if (input.phase === "connecting") return { level: "warn", kind: "connecting" };
  // Without the broker nothing else can be known, so it is named first.
  const worst = [...input.components]
    .map((one) => asOf(one, input.nowMs))
    .sort((a, b) => severity(b) - severity(a))[0];
  if (worst && severity(worst) > 0) {
    return { level: worst.state === "down" ? "bad" : "warn", kind: "component", component: worst };
  }
  if (input.lastDecidedMs === null) return { level: "warn", kind: "waiting" };
  const ageS = Math.max(0, (input.nowMs - input.lastDecidedMs) / 1000);
  if (ageS > input.staleS) return { level: "warn", kind: "silent", ageS };
  return { level: "ok", kind: "live" };
}

/** A component as it may be called now: an old reading counts as unknown. */
export function asOf(component: Component, nowMs: number): Component {
  const old = component.checked_at_ms > 0 && nowMs - component.checked_at_ms > READING_STALE_MS;
  return old ? { ...component, state: "unknown", since_ms: component.checked_at_ms } : component;
}

function severity(component: Component): number {
  const base = { up: 0, unknown: 1, not_ready: 3, down: 5 }[component.state];
  return base > 0 && component.name === "kafka" ? base + 1 : base;
}
