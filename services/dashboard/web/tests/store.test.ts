import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LiveStore } from "../src/live/store";
import { inspection, wall } from "./samples";

class FakeEventSource {
  static readonly CLOSED = 2;
  static all: FakeEventSource[] = [];
  readyState = 1;
  onerror: (() => void) | null = null;
  private readonly listeners = new Map<string, (event: { data: string }) => void>();

  constructor(readonly url: string) {
    FakeEventSource.all.push(this);
  }

  addEventListener(name: string, listener: (event: { data: string }) => void) {
    this.listeners.set(name, listener);
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }

  say(name: string, data: unknown) {
    this.listeners.get(name)?.({ data: JSON.stringify(data) });
  }
}

const newest = () => {
  const source = FakeEventSource.all.at(-1);
  if (!source) throw new Error("no stream was opened");
  return source;
};

describe("the live store", () => {
  let store: LiveStore;

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("EventSource", FakeEventSource);
    FakeEventSource.all = [];
    store = new LiveStore();
    store.start();
  });

  afterEach(() => {
    store.stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("is open with the first snapshot", () => {
    expect(store.read().phase).toBe("connecting");
    newest().say("snapshot", wall());
    expect(store.read().phase).toBe("open");
  });

  it("draws what it is told of the lines at once", () => {
    newest().say("snapshot", wall());
    expect(store.read().lines).toBeNull();
    newest().say("lines", { at_ms: 1_000, offered: true, known: true, away: null, lines: [] });
    expect(store.read().lines?.offered).toBe(true);
    // Another line on the wall changes nothing of the lights.
    store.showLine("line-2");
    expect(store.read().lines?.offered).toBe(true);
  });

  it("draws many batches at once, a little later", () => {
    newest().say("snapshot", wall());
    const drawn = vi.fn();
    store.subscribe(drawn);
    for (const number of [1, 2, 3]) newest().say("batch", { at_ms: 1, verdicts: [inspection(number)] });
    expect(drawn).not.toHaveBeenCalled();
    vi.advanceTimersByTime(500);
    expect(drawn).toHaveBeenCalledTimes(1);
    expect(store.read().wall?.lines[0]?.cameras[0]?.latest).toHaveLength(3);
  });

  it("holds the frozen wall still while the line goes on behind it", () => {
    newest().say("snapshot", wall([inspection(1)]));
    store.freeze();
    newest().say("batch", { at_ms: 1, verdicts: [inspection(2)] });
    vi.advanceTimersByTime(500);
    expect(store.read().frozen?.lines[0]?.cameras[0]?.latest).toHaveLength(1);
    expect(store.read().wall?.lines[0]?.cameras[0]?.latest).toHaveLength(2);
    store.resume();
    expect(store.read().frozen).toBeNull();
  });

  it("says that the server is lost, and opens again by itself when it was refused", () => {
    newest().say("snapshot", wall());
    newest().readyState = FakeEventSource.CLOSED;
    newest().onerror?.();
    expect(store.read().phase).toBe("lost");
    vi.advanceTimersByTime(2_000);
    expect(FakeEventSource.all).toHaveLength(2);
    newest().say("snapshot", wall());
    expect(store.read().phase).toBe("open");
  });

  it("does not trust a connection that has fallen silent", () => {
    newest().say("snapshot", wall());
    vi.advanceTimersByTime(7_000);
    expect(store.read().phase).toBe("lost");
    expect(FakeEventSource.all.length).toBeGreaterThan(1);
  });

  it("asks for one line only when one is chosen", () => {
    store.showLine("line a");
    expect(newest().url).toBe("/api/v1/stream?line=line%20a");
    expect(store.read().wall).toBeNull();
  });

  it("tells of explanations as they come, and that some may have been missed after an outage", () => {
    const heard: (string[] | null)[] = [];
    const stop = store.onExplained((frameIds) => heard.push(frameIds));
    newest().say("snapshot", wall());
    newest().say("explained", { frame_ids: ["frame-1"] });
    expect(heard).toEqual([null, ["frame-1"]]);
    newest().onerror?.();
    newest().say("snapshot", wall());
    expect(heard).toEqual([null, ["frame-1"], null]);
    stop();
    newest().say("explained", { frame_ids: ["frame-2"] });
    expect(heard).toHaveLength(3);
  });
});
