import { afterEach, describe, expect, it, vi } from "vitest";
import type { Verdict } from "../src/api/types";
import { SAID, answersOf, canSay, commandOf, newId, saidIn, settledBy, standing, wantsCorrection, type Said } from "../src/review/answers";
import { review } from "./review-samples";

const VERDICTS: Verdict[] = ["fail", "pass", "review"];

/** What a key says of a verdict: verdict right, reason right, corrected verdict. */
function told(key: string, verdict: Verdict, mapSeen = true) {
  const command = commandOf(key);
  if (command?.kind !== "say") throw new Error(`${key} says nothing`);
  const { verdict_right, reason_right, corrected_verdict } = answersOf(command.said, verdict, mapSeen);
  return [verdict_right, reason_right, corrected_verdict];
}

describe("the keys", () => {
  it("judge a part that failed", () => {
    expect(told("1", "fail")).toEqual(["yes", "yes", null]);
    expect(told("2", "fail")).toEqual(["no", "not_asked", "pass"]);
    expect(told("3", "fail")).toEqual(["yes", "no", null]);
    expect(told("0", "fail")).toEqual(["not_sure", "not_asked", null]);
  });

  it("judge a part that passed", () => {
    expect(told("1", "pass")).toEqual(["yes", "yes", null]);
    expect(told("2", "pass")).toEqual(["no", "not_asked", "fail"]);
    expect(told("3", "pass")).toEqual(["yes", "no", null]);
    expect(told("n", "pass")).toEqual(["not_sure", "not_asked", null]);
  });

  it("decide a part that the model asked about, whose verdict was right in any case", () => {
    expect(told("1", "review")).toEqual(["yes", "not_asked", "pass"]);
    expect(told("2", "review")).toEqual(["yes", "yes", "fail"]);
    expect(told("3", "review")).toEqual(["yes", "no", "fail"]);
    expect(told("N", "review")).toEqual(["not_sure", "not_asked", null]);
  });

  it("say nothing of a reason where no map was on screen", () => {
    expect(told("1", "fail", false)).toEqual(["yes", "not_asked", null]);
    expect(told("2", "review", false)).toEqual(["yes", "not_asked", "fail"]);
    expect(canSay("elsewhere", false)).toBe(false);
    expect(SAID.filter((said) => canSay(said, true))).toEqual(SAID);
  });

  it("walk, skip, undo and switch the map, in both cases", () => {
    expect(["s", "Z", " ", "ArrowLeft", "ArrowRight", "l"].map((key) => commandOf(key)?.kind)).toEqual([
      "skip",
      "undo",
      "toggle_map",
      "previous",
      "next",
      "answers",
    ]);
    expect(commandOf("q")).toBeNull();
    expect(commandOf("Enter")).toBeNull();
  });
});

describe("an answer", () => {
  it("settles what the part is", () => {
    const settled = (verdict: Verdict) => (["right", "wrong", "elsewhere", "unsure"] as const).map((said) => settledBy(said, verdict));
    expect(settled("fail")).toEqual(["fail", "pass", "fail", null]);
    expect(settled("pass")).toEqual(["pass", "fail", "pass", null]);
    expect(settled("review")).toEqual(["pass", "fail", "fail", null]);
  });

  it("asks where the defect is only on a defective part, where the model did not say so itself", () => {
    const asked = (verdict: Verdict) => SAID.filter((said) => wantsCorrection(said, verdict));
    expect(asked("fail")).toEqual(["elsewhere"]);
    expect(asked("pass")).toEqual(["wrong"]);
    expect(asked("review")).toEqual(["wrong", "elsewhere"]);
  });

  it("is told from the record as it was given", () => {
    for (const verdict of VERDICTS) {
      for (const said of SAID) {
        const found = saidIn(review("r", answersOf(said, verdict, true)));
        expect(found?.said, `${verdict} ${said}`).toBe<Said>(said);
      }
    }
    expect(saidIn(review("r", { action: "skip" }))).toBeNull();
  });
});

describe("the answers that stand", () => {
  it("are those that were neither taken back nor replaced", () => {
    const all = [review("a"), review("b", { supersedes: "a" }), review("c", { reviewer: "Bernd" })];
    expect(standing(all).map((one) => one.review_id)).toEqual(["b", "c"]);
    const undone = [...all, review("u", { action: "undo", supersedes: "b" })];
    expect(standing(undone).map((one) => one.review_id)).toEqual(["a", "c"]);
  });
});

describe("an id", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is a lower-case UUID, also where the browser makes none on a plain address", () => {
    const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    expect(newId()).toMatch(uuid);
    const { crypto } = globalThis;
    vi.stubGlobal("crypto", { getRandomValues: (bytes: Uint8Array<ArrayBuffer>) => crypto.getRandomValues(bytes) });
    const ids = [newId(), newId()];
    for (const id of ids) expect(id).toMatch(uuid);
    expect(ids[0]).not.toBe(ids[1]);
  });
});
