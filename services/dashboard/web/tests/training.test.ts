import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CandidateReport, Notice, Run, ShadowFigures, TrainedAlias } from "../src/api/training";
import { fill } from "../src/i18n";
import { de } from "../src/i18n/de";
import { en } from "../src/i18n/en";
import { dismiss, markOf, readSeen, unseen } from "../src/training/notices";
import { canCancel, canPromote, canResume, canRollBack, isFloor, isReplaced, missed, needsReason, shownLarge, stepsOf, unitOf } from "../src/training/run";
import { followRun, type FollowedRun } from "../src/training/useRun";
import { detailText, phraseText, problemText, reasonText } from "../src/training/words";

const say = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);

const matrix = { good: { pass: 9, review: 1, fail: 0 }, defective: { pass: 0, review: 1, fail: 9 } };

const report = (some: Partial<CandidateReport> = {}): CandidateReport => ({
  live_version: 3, may_go_live: true, gates: [], live: null, candidate: matrix, flips: [], answered: [], train_parts: 1, lessons: 1,
  holdout_parts: 20, ...some,
});

const gate = (state: "kept" | "broken") => ({
  name: "mcc", state, live: 0.8, candidate: 0.7, bound: 0.78, low: null, high: null, parts: 20,
});

const shadow: ShadowFigures = { frames: 1, wanted: 2, failed: 0, agreed: 1, live_flagged: 0, candidate_flagged: 0, flips: [] };

const run = (some: Partial<Run> = {}): Run => ({
  run_id: "r-1", alias: "default", trigger: "hand", actor: "ada", note: "", requested_at_ms: 1, stage_since_ms: 1, ended_at_ms: null,
  stage: "training", outcome: null, reason: "", detail: "", share: 0.5, doing: "", recipe: "head", loss: "ce", seed: "0", live_version: 3,
  candidate_version: 0, snapshot: null, epochs: [], report: null, shadow: null, watch: null, authors: [], promotes_itself: false,
  attempts: 1, ...some,
});

const ended = (outcome: Run["outcome"], some: Partial<Run> = {}) => run({ stage: "ended", outcome, ...some });

const alias = (some: Partial<TrainedAlias> = {}): TrainedAlias => ({
  alias: "default", revision: 1, live_version: 3, previous_version: 2, shadow_version: 0, candidate_versions: [5], action: "promote",
  actor: "mira", at_ms: 1, note: "", ...some,
});

const states = (one: Run) => Object.fromEntries(stepsOf(one).map(({ stage, state }) => [stage, state]));

describe("the line of stages", () => {
  it("tells what is behind, what is done now, and what lies ahead", () => {
    expect(states(run())).toMatchObject({ waiting: "done", snapshot: "done", training: "now", evaluation: "ahead", ended: "ahead" });
  });

  it("tells which stages were not needed", () => {
    expect(states(run({ stage: "watch", promotes_itself: true }))).toMatchObject({ shadow: "passed_over", decision: "passed_over", watch: "now" });
    expect(states(ended("promoted", { shadow, report: report() }))).toMatchObject({
      shadow: "done", decision: "done", watch: "passed_over", ended: "done",
    });
  });

  it("shows where a run ended that went no further", () => {
    expect(states(ended("refused", { report: report() }))).toMatchObject({ evaluation: "stopped", registering: "ahead", ended: "stopped" });
    expect(states(ended("refused", { report: report(), shadow }))).toMatchObject({ registering: "done", shadow: "stopped" });
    expect(states(ended("failed", { attempts: 0 }))).toMatchObject({ waiting: "stopped", snapshot: "ahead" });
    expect(states(ended("cancelled"))).toMatchObject({ training: "stopped" });
  });
});

describe("what may be done with a run", () => {
  it("is cancelled until its version is live", () => {
    expect([run(), run({ stage: "decision" }), run({ stage: "watch" }), ended("failed")].map(canCancel)).toEqual([true, true, false, false]);
  });

  it("is resumed where a second try may change something", () => {
    expect(canResume(ended("failed"))).toBe(true);
    expect(canResume(ended("cancelled", { report: report() }))).toBe(false);
    expect(canResume(ended("failed", { report: report() }))).toBe(true);
    expect(canResume(ended("failed", { reason: "nothing_to_learn" }))).toBe(false);
    expect(canResume(ended("refused"))).toBe(false);
  });

  it("is promoted while it waits for that, and refused versions only with a reason", () => {
    const waiting = run({ stage: "decision", candidate_version: 5, report: report({ gates: [gate("kept")] }) });
    expect([canPromote(waiting, alias()), needsReason(waiting)]).toEqual([true, false]);
    expect(canPromote(run({ stage: "shadow", candidate_version: 5 }), alias())).toBe(false);
    const refused = ended("refused", { candidate_version: 5, report: report({ gates: [gate("broken")] }) });
    expect([canPromote(refused, alias()), needsReason(refused)]).toEqual([true, true]);
    expect(canPromote(refused, alias({ live_version: 5 }))).toBe(false);
    expect(canPromote(ended("refused", { report: report() }), alias())).toBe(false);
  });

  it("is rolled back while its version decides and another did before", () => {
    const live = ended("promoted", { candidate_version: 5 });
    expect(canRollBack(live, alias({ live_version: 5, previous_version: 3 }))).toBe(true);
    expect(canRollBack(live, alias({ live_version: 5, previous_version: 0 }))).toBe(false);
    expect(canRollBack(live, alias())).toBe(false);
    expect(canRollBack(live, null)).toBe(false);
  });

  it("is shown large while it goes on, else the newest", () => {
    const [one, other, old] = [run({ run_id: "c" }), run({ run_id: "b", alias: "x" }), ended("failed", { run_id: "a" })];
    expect(shownLarge([one, other, old])).toEqual([one, other]);
    expect(shownLarge([old])).toEqual([old]);
    expect(shownLarge([])).toEqual([]);
  });
});

describe("gates and answers", () => {
  it("are told in their unit and with the side of the bound that is kept", () => {
    expect(["mcc", "escapes", "calibration", "latency", "new"].map(unitOf)).toEqual(["figure", "parts", "share", "milliseconds", "figure"]);
    expect(["mcc", "explanation", "escapes", "calibration", "latency"].map(isFloor)).toEqual([true, true, false, false, false]);
  });

  it("picks the answers that are not honoured", () => {
    const part = { image_sha256: "", part_id: "p", case_ids: [], reviewers: [], label: "good", verdict: "fail", score: 1 } as const;
    const wrong = { ...part, case_ids: [], reviewers: [], verdict_corrected: true, verdict_right: false, region_corrected: false, region_right: false, honoured: false };
    expect(missed(report({ answered: [wrong, { ...wrong, honoured: true }] }))).toEqual([wrong]);
  });
});

describe("reasons", () => {
  it("have words in both languages for every gate and every token of the protocol", () => {
    for (const token of ["mcc", "escapes", "explanation", "calibration", "latency", "shadow", "triton_refused"]) {
      expect(en).toHaveProperty([`training.reason.${token}`]);
      expect(de).toHaveProperty([`training.reason.${token}`]);
    }
    for (const left of ["contradicted", "not_sure", "held_out", "no_picture", "mask_does_not_fit"]) expect(en).toHaveProperty([`training.left_out.${left}`]);
  });

  it("that have none are told as the trainer tells them", () => {
    expect(reasonText({ reason: "mcc", detail: "0.5" }, say)).toBe(en["training.reason.mcc"]);
    expect(detailText({ reason: "mcc", detail: "0.5" }, say)).toBe("0.5");
    expect(reasonText({ reason: "gremlins", detail: "they ate it" }, say)).toBe("they ate it");
    expect(detailText({ reason: "gremlins", detail: "they ate it" }, say)).toBe("");
    expect(reasonText({ reason: "gremlins", detail: "" }, say)).toBe("gremlins");
    expect(reasonText({ reason: "", detail: "" }, say)).toBe("");
  });

  it("of a refusal are plain, or the server's own words", () => {
    expect(problemText({ reason: "exists", message: "x" }, say)).toBe("this model has a run already.");
    expect(problemText({ reason: "precondition", message: "no checkpoint" }, say)).toBe("no checkpoint");
  });
});

describe("notices", () => {
  const notice = (some: Partial<Notice> = {}): Notice => ({
    kind: "refused", run_id: "r-1", alias: "default", ended_at_ms: 1, reason: "mcc", detail: "", candidate_version: 5, missed: 0, mine: 1, ...some,
  });

  beforeEach(() => localStorage.clear());

  it("stay away for good once they are dismissed, for that person alone", () => {
    const [one, other] = [notice(), notice({ run_id: "r-2" })];
    dismiss(markOf(one, "ada"), readSeen());
    expect(unseen([one, other], "ada", readSeen())).toEqual([other]);
    expect(unseen([one], "bob", readSeen())).toEqual([one]);
  });

  it("come back as they are where what was kept is no list", () => {
    localStorage.setItem("sightline.training-seen", "{oops");
    expect(readSeen().size).toBe(0);
  });
});

class Source {
  static opened: Source[] = [];
  readonly listeners = new Map<string, (event: { data: string }) => void>();
  closed = false;
  onerror: (() => void) | null = null;
  constructor(readonly url: string) {
    Source.opened.push(this);
  }
  addEventListener(name: string, listener: (event: { data: string }) => void) {
    this.listeners.set(name, listener);
  }
  tell(name: string, body: unknown = {}) {
    this.listeners.get(name)?.({ data: JSON.stringify(body) });
  }
  close() {
    this.closed = true;
  }
}

describe("following a run", () => {
  const answers: (Run | number)[] = [];
  let told: Partial<FollowedRun>[] = [];
  let stop: () => void = () => undefined;

  beforeEach(() => {
    vi.useFakeTimers();
    Source.opened = [];
    told = [];
    answers.length = 0;
    vi.stubGlobal("EventSource", Source);
    vi.stubGlobal("fetch", () => {
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (typeof answer === "number") {
        const reason = answer === 404 ? "not_found" : "unavailable";
        return Promise.resolve(new Response(JSON.stringify({ error: { reason, message: "no" } }), { status: answer }));
      }
      return Promise.resolve(new Response(JSON.stringify(answer)));
    });
  });

  afterEach(() => {
    stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const follow = async () => {
    stop = followRun("r-1", (change) => told.push(change));
    await vi.advanceTimersByTimeAsync(0);
  };

  it("is told every change while it goes on, and asked about rarely once it has ended", async () => {
    answers.push(run(), ended("promoted"));
    await follow();
    const [source] = Source.opened;
    source?.tell("run", run({ share: 0.9 }));
    expect(told.at(-1)).toMatchObject({ run: { share: 0.9 }, problem: null });
    source?.tell("end");
    expect(source?.closed).toBe(true);
    await vi.advanceTimersByTimeAsync(19_000);
    expect(told).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(told.at(-1)).toMatchObject({ run: { outcome: "promoted" } });
    expect(Source.opened).toHaveLength(1);
  });

  it("keeps what was known while the trainer is away, and goes on when it is back", async () => {
    answers.push(run(), 503, run({ share: 0.7 }));
    await follow();
    Source.opened[0]?.tell("failed", { error: { reason: "unavailable", message: "away" } });
    expect(told.at(-1)).toEqual({ problem: { reason: "unavailable", message: "away" } });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(told.at(-1)).toMatchObject({ problem: { reason: "unavailable" } });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(told.at(-1)).toMatchObject({ run: { share: 0.7 }, problem: null });
    expect(Source.opened).toHaveLength(2);
  });

  it("asks now and then where too many follow runs", async () => {
    answers.push(run(), run({ share: 0.7 }));
    await follow();
    Source.opened[0]?.tell("failed", { error: { reason: "busy", message: "too many" } });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(told.map((one) => one.problem)).toEqual([null, null]);
    expect(told.at(-1)).toMatchObject({ run: { share: 0.7 } });
  });

  it("asks no more about a run that is not on record, nor after it was left", async () => {
    answers.push(404);
    await follow();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toHaveLength(1);
    answers[0] = run();
    await follow();
    stop();
    expect(Source.opened[0]?.closed).toBe(true);
    Source.opened[0]?.tell("run", run());
    expect(told).toHaveLength(2);
  });
});

describe("what a run does at the moment", () => {
  const german = (key: keyof typeof de, values?: Record<string, string | number>) => fill(de[key], values);

  it("is said in the page's language, with its numbers", () => {
    expect(phraseText("refuting and embedding 300 answered pictures", german)).toBe("macht Gegenbeispiele zu 300 beantworteten Bildern");
    expect(phraseText("12 of 20 live frames", german)).toBe("12 von 20 Bildern der Linie");
    expect(phraseText("epoch 2 of at most 30", say)).toBe("epoch 2 of at most 30");
    expect(phraseText("waits: the object store must answer, it did not", german)).toBe("wartet: the object store must answer, it did not");
  });

  it("is said so too once it has ended, and once", () => {
    const watched = { reason: "", detail: "484 frames were watched" };
    expect(reasonText(watched, german)).toBe("484 Bilder wurden beobachtet");
    expect(detailText(watched, german)).toBe("");
  });

  it("is said as the trainer says it where this page has no words for it", () => {
    expect(phraseText("polishing the weights", german)).toBe("polishing the weights");
  });
});

describe("a version that went live", () => {
  it("is replaced once another one decides, and not while it does or where it never went live", () => {
    const promoted = ended("promoted", { candidate_version: 4 });
    expect(isReplaced(promoted, alias({ live_version: 3 }))).toBe(true);
    expect(isReplaced(promoted, alias({ live_version: 4 }))).toBe(false);
    expect(isReplaced(ended("refused", { candidate_version: 4 }), alias({ live_version: 3 }))).toBe(false);
    expect(isReplaced(run({ candidate_version: 4 }), alias({ live_version: 3 }))).toBe(false);
  });
});
