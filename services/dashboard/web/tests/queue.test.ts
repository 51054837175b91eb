import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/api/client";
import { Claim } from "../src/review/claim";
import { NO_TRAIL, Preloader, again, broughtBack, current, onward, putAside, step, upcoming, withCases, withFate, withNext, type Trail } from "../src/review/queue";
import { answeredIn, answersPerMinute, type Turn } from "../src/review/session";
import { queued } from "./review-samples";

const trailOf = (...numbers: number[]): Trail => withCases(NO_TRAIL, numbers.map((number) => queued(number)));
const here = (trail: Trail) => current(trail)?.case_id ?? null;
const ids = (cases: readonly { case_id: string }[]) => cases.map((one) => one.case_id);
const answered = (trail: Trail) => onward(withFate(trail, here(trail) ?? "", "answered"));

describe("the trail of cases", () => {
  it("shows what comes first and moves on with each answer", () => {
    const trail = answered(answered(trailOf(1, 2, 3)));
    expect(here(trail)).toBe("case-3");
    expect(here(answered(trail))).toBeNull();
  });

  it("shows a case that comes while nothing is left, by itself", () => {
    const empty = answered(trailOf(1));
    expect(here(empty)).toBeNull();
    expect(here(withCases(empty, [queued(1), queued(2)]))).toBe("case-2");
  });

  it("takes a case in once, with what is newest of it", () => {
    const trail = trailOf(1, 2);
    expect(withCases(trail, [...trail.cases])).toBe(trail);
    const next = withCases(trail, [queued(2, "fail", { gain: 0.9 }), queued(3)]);
    expect(ids(next.cases)).toEqual(["case-1", "case-2", "case-3"]);
    expect(next.cases[1]?.gain).toBe(0.9);
  });

  it("brings similar parts in right after the case on screen, in their order", () => {
    const trail = onward(withFate(trailOf(1, 2, 3, 4), "case-1", "answered"));
    const next = withNext(trail, [queued(4), queued(9)]);
    expect(here(next)).toBe("case-2");
    expect(ids(next.cases)).toEqual(["case-1", "case-2", "case-4", "case-9", "case-3"]);
  });

  it("brings in neither what is on screen nor what was answered already", () => {
    const trail = onward(withFate(trailOf(1, 2, 3), "case-1", "answered"));
    expect(withNext(trail, [queued(1), queued(2)])).toBe(trail);
  });

  it("shows a similar part at once where nothing is left", () => {
    const empty = answered(trailOf(1));
    const next = withNext(empty, [queued(9)]);
    expect(here(next)).toBe("case-9");
    expect(here(answered(next))).toBeNull();
  });

  it("keeps the case on screen where a similar part had been passed by", () => {
    const trail = step(step(trailOf(1, 2, 3), 1), 1);
    const next = withNext(trail, [queued(1)]);
    expect(here(next)).toBe("case-3");
    expect(ids(upcoming(next))).toEqual(["case-1"]);
  });

  it("walks back over answered cases but not over those that others hold", () => {
    const trail = onward(withFate(answered(trailOf(1, 2, 3)), "case-2", "held"));
    expect(here(trail)).toBe("case-3");
    expect(here(step(trail, -1))).toBe("case-1");
    expect(step(trailOf(1), -1).at).toBe(0);
  });

  it("walks forward over what has become something already", () => {
    const trail = withFate(trailOf(1, 2, 3), "case-2", "answered");
    expect(here(step(trail, 1))).toBe("case-3");
    expect(ids(upcoming(trail))).toEqual(["case-3"]);
  });

  it("brings a case back that was answered, as open, wherever it is", () => {
    const back = broughtBack(answered(answered(trailOf(1, 2, 3))), queued(1));
    expect(here(back)).toBe("case-1");
    expect(back.fates.has("case-1")).toBe(false);
    const unknown = broughtBack(trailOf(1, 2), queued(9));
    expect(ids(unknown.cases)).toEqual(["case-9", "case-1", "case-2"]);
    expect(here(unknown)).toBe("case-9");
  });

  it("keeps what was put aside or passed by, to be looked at again", () => {
    const skipped = onward(withFate(trailOf(1, 2, 3), "case-1", "skipped"));
    const passed = step(skipped, 1);
    const end = answered(passed);
    expect(here(end)).toBeNull();
    expect(ids(putAside(end))).toEqual(["case-1", "case-2"]);
    const anew = again(end);
    expect(here(anew)).toBe("case-1");
    expect(here(answered(anew))).toBe("case-2");
    expect(here(answered(answered(anew)))).toBeNull();
  });

  it("does not grow for ever, and still knows what was answered", () => {
    let trail = withCases(NO_TRAIL, Array.from({ length: 600 }, (_, number) => queued(number)));
    for (let count = 0; count < 500; count++) trail = answered(trail);
    expect(here(trail)).toBe("case-500");
    expect(trail.cases.length).toBeLessThanOrEqual(301);
    expect(withCases(trail, [queued(3)])).toBe(trail);
  });
});

describe("preloading", () => {
  it("loads each case once and gives it at once when it is there", async () => {
    const load = vi.fn((caseId: string) => Promise.resolve(`loaded ${caseId}`));
    const preloader = new Preloader(load);
    preloader.hold(["a", "b"]);
    expect(preloader.peek("a")).toBeNull();
    await preloader.get("a");
    preloader.hold(["a", "b", "c"]);
    expect(preloader.peek("a")).toBe("loaded a");
    expect(load.mock.calls.map(([caseId]) => caseId)).toEqual(["a", "b", "c"]);
  });

  it("lets go of what is no longer near, and stops loading it", async () => {
    const signals = new Map<string, AbortSignal>();
    const preloader = new Preloader((caseId: string, signal) => {
      signals.set(caseId, signal);
      return new Promise<string>(() => undefined);
    });
    preloader.hold(["a", "b"]);
    preloader.hold(["b"]);
    expect(signals.get("a")?.aborted).toBe(true);
    expect(signals.get("b")?.aborted).toBe(false);
    await Promise.resolve();
  });

  it("tries again what could not be loaded", async () => {
    let count = 0;
    const preloader = new Preloader(() => (count++ === 0 ? Promise.reject(new Error("away")) : Promise.resolve("there")));
    await expect(preloader.get("a")).rejects.toThrow("away");
    await expect(preloader.get("a")).resolves.toBe("there");
  });
});

describe("the claim", () => {
  const calls = { claim: vi.fn(), release: vi.fn(() => Promise.resolve()) };
  const settled = () => vi.advanceTimersByTimeAsync(1);

  beforeEach(() => {
    vi.useFakeTimers();
    calls.claim.mockReset().mockImplementation(() => Promise.resolve({ until_ms: Date.now() + 60_000 }));
    calls.release.mockClear();
  });
  afterEach(() => void vi.useRealTimers());

  it("is prolonged while the case is on screen and given back when it is left", async () => {
    const claim = new Claim(() => undefined, calls);
    claim.hold("a", "Anna");
    await vi.advanceTimersByTimeAsync(65_000);
    expect(calls.claim).toHaveBeenCalledTimes(3);
    claim.hold("b", "Anna");
    await settled();
    expect(calls.release.mock.calls).toEqual([["a", "Anna"]]);
    expect(calls.claim).toHaveBeenLastCalledWith("b", "Anna");
  });

  it("is not given back with an answer on its way", async () => {
    const claim = new Claim(() => undefined, calls);
    claim.hold("a", "Anna");
    await settled();
    claim.leave(true);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(calls.release).not.toHaveBeenCalled();
    expect(calls.claim).toHaveBeenCalledTimes(1);
  });

  it("is given back only after it has arrived", async () => {
    let arrive: (value: { until_ms: number }) => void = () => undefined;
    calls.claim.mockImplementation(() => new Promise((resolve) => (arrive = resolve)));
    const claim = new Claim(() => undefined, calls);
    claim.hold("a", "Anna");
    claim.leave(false);
    await settled();
    expect(calls.release).not.toHaveBeenCalled();
    arrive({ until_ms: 1 });
    await settled();
    expect(calls.release).toHaveBeenCalledTimes(1);
  });

  it("is given back at once when the page goes, and again should it have arrived later", async () => {
    let arrive: (value: { until_ms: number }) => void = () => undefined;
    calls.claim.mockImplementation(() => new Promise((resolve) => (arrive = resolve)));
    const claim = new Claim(() => undefined, calls);
    claim.hold("a", "Anna");
    const given = vi.fn();
    void claim.giveBack().then(given);
    expect(calls.release.mock.calls).toEqual([["a", "Anna"]]);
    await settled();
    expect(given).not.toHaveBeenCalled();
    arrive({ until_ms: 1 });
    await settled();
    expect(calls.release).toHaveBeenCalledTimes(2);
    expect(given).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(calls.claim).toHaveBeenCalledTimes(1);
    await claim.giveBack();
    expect(calls.release).toHaveBeenCalledTimes(2);
  });

  it("tells whether somebody else held the case from the start", async () => {
    const lost = vi.fn();
    const claim = new Claim(lost, calls);
    calls.claim.mockRejectedValueOnce(new ApiError({ reason: "conflict", message: "held" }, 409));
    claim.hold("a", "Anna");
    await settled();
    claim.hold("b", "Anna");
    await settled();
    calls.claim.mockRejectedValueOnce(new ApiError({ reason: "conflict", message: "held" }, 409));
    await vi.advanceTimersByTimeAsync(40_000);
    expect(lost.mock.calls).toEqual([
      ["a", true],
      ["b", false],
    ]);
    claim.leave(false);
    expect(calls.release).not.toHaveBeenCalled();
  });

  it("does without while the server is away, and asks again", async () => {
    const lost = vi.fn();
    const claim = new Claim(lost, calls);
    calls.claim.mockRejectedValueOnce(new ApiError({ reason: "unavailable", message: "away" }, 503));
    claim.hold("a", "Anna");
    await vi.advanceTimersByTimeAsync(11_000);
    expect(calls.claim).toHaveBeenCalledTimes(2);
    expect(lost).not.toHaveBeenCalled();
    claim.leave(true);
  });
});

describe("the pace", () => {
  const turn = (atMs: number, said: Turn["said"] = "right"): Turn => ({
    reviewId: String(atMs),
    caseId: "c",
    partId: "p",
    product: "disc",
    verdict: "fail",
    said,
    atMs,
    defectClass: "",
    draft: null,
  });

  it("counts answers, not what was put aside, over the last five minutes", () => {
    const turns = [turn(0), turn(600_000), turn(630_000, "skip"), turn(660_000), turn(690_000)];
    expect(answeredIn(turns)).toBe(4);
    expect(answersPerMinute(turns, 720_000)).toBe(1.5);
  });

  it("is not told of a few answers", () => {
    expect(answersPerMinute([turn(0), turn(1)], 1_000)).toBeNull();
  });
});
