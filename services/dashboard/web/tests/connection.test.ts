import { describe, expect, it } from "vitest";
import type { Component } from "../src/api/types";
import { judge, type ConnectionInput } from "../src/live/connection";

const NOW = 1_800_000_000_000;

const component = (name: string, state: Component["state"], checkedAgoMs = 500): Component => ({
  name,
  state,
  detail: "",
  since_ms: NOW - 60_000,
  checked_at_ms: checkedAgoMs < 0 ? 0 : NOW - checkedAgoMs,
});

const healthy: ConnectionInput = {
  phase: "open",
  lostSinceMs: 0,
  components: [component("kafka", "up"), component("object_store", "up")],
  lastDecidedMs: NOW - 1_000,
  nowMs: NOW,
  staleS: 10,
};

describe("the line's connection", () => {
  it("is live only while verdicts come and every part is up", () => {
    expect(judge(healthy)).toEqual({ level: "ok", kind: "live" });
  });

  it("is silent once the newest verdict is older than the stale limit", () => {
    expect(judge({ ...healthy, lastDecidedMs: NOW - 12_000 })).toEqual({ level: "warn", kind: "silent", ageS: 12 });
  });

  it("waits before the first verdict", () => {
    expect(judge({ ...healthy, lastDecidedMs: null }).kind).toBe("waiting");
  });

  it("names the broker before anything else that is down", () => {
    const components = [component("object_store", "down"), component("kafka", "down")];
    expect(judge({ ...healthy, components })).toMatchObject({ level: "bad", kind: "component", component: { name: "kafka" } });
  });

  it("is a warning, not an alarm, while a part is up but not ready", () => {
    const found = judge({ ...healthy, components: [...healthy.components, component("detector", "not_ready")] });
    expect(found).toMatchObject({ level: "warn", kind: "component", component: { name: "detector" } });
  });

  it("does not believe an old reading", () => {
    const found = judge({ ...healthy, components: [component("kafka", "up", 30_000)] });
    expect(found).toMatchObject({ kind: "component", component: { name: "kafka", state: "unknown" } });
  });

  it("says first that the page itself is cut off: everything else is old news", () => {
    const found = judge({ ...healthy, phase: "lost", lostSinceMs: NOW - 5, components: [component("kafka", "down")] });
    expect(found).toEqual({ level: "bad", kind: "page_offline", sinceMs: NOW - 5 });
  });
});
