import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Drafts, type Draft, type DraftFields } from "../src/review/drafts";
import { memoryShelf } from "../src/review/shelf";

const fields = (change: Partial<DraftFields> = {}): DraftFields => ({
  said: "elsewhere",
  defectClass: "scratch",
  note: "",
  strokes: [{ tool: "brush", radius: 4, points: [[1, 2]] }],
  asArea: false,
  ...change,
});

describe("drafts", () => {
  let kept: Map<string, Draft>;
  let drafts: Drafts;

  beforeEach(() => {
    vi.useFakeTimers({ now: 1_000 });
    kept = new Map();
    drafts = new Drafts(memoryShelf(kept));
  });
  afterEach(() => void vi.useRealTimers());

  it("are kept a moment after the last change, by case", async () => {
    drafts.save("a", fields({ note: "n" }));
    drafts.save("a", fields({ note: "no" }));
    drafts.save("b", fields());
    expect(kept.size).toBe(0);
    await vi.advanceTimersByTimeAsync(300);
    expect(kept.get("a")).toMatchObject({ note: "no", caseId: "a", savedAtMs: 1_000 });
    expect(kept.has("b")).toBe(true);
  });

  it("are kept at once when the page may be about to go", async () => {
    drafts.save("a", fields());
    await drafts.flush();
    expect(kept.size).toBe(1);
  });

  it("come back with the case, after a crash too", async () => {
    drafts.save("a", fields());
    expect(await drafts.load("a")).toMatchObject({ defectClass: "scratch" });
    await drafts.flush();
    const restored = await new Drafts(memoryShelf(kept)).load("a");
    expect(restored?.strokes).toEqual(fields().strokes);
    expect(await drafts.load("other")).toBeNull();
  });

  it("go when their answer is acknowledged, unless they were begun after it", async () => {
    drafts.save("a", fields());
    await drafts.flush();
    await drafts.remove("a", 999);
    expect(kept.size).toBe(1);
    await drafts.remove("a", 1_000);
    expect(kept.size).toBe(0);
  });

  it("say when they cannot be kept", async () => {
    const told = vi.fn();
    const failing = new Drafts({ ...memoryShelf<Draft>(), put: () => Promise.reject(new Error("no room")) }, told);
    failing.save("a", fields());
    await failing.flush();
    expect(told).toHaveBeenCalledWith(false);
  });
});
