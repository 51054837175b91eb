import { describe, expect, it } from "vitest";
import { answered, BATCH, bulkAnswers, sendAll, type BulkAnswer, type BulkResult } from "../src/gallery/bulk";
import { fieldsSet, filterQuery, fromLocalTime, inState, localTime, NO_FILTER, readView, writeView } from "../src/gallery/filter";
import { among, everything, extended, neighbour, NOTHING, toggled } from "../src/gallery/selection";
import { rowsAt, shapeOf } from "../src/gallery/window";
import { exportUrl } from "../src/api/gallery";
import { queued } from "./review-samples";

describe("a view in the address", () => {
  it("comes back as it was", () => {
    const view = {
      filter: { ...NO_FILTER, line: "line-1", verdict: "fail" as const, defect_class: "a&b=c", answered_by: "Jörg Å", since_ms: "1790000000000" },
      order: "oldest" as const,
      find: "LOT7 0001",
    };
    expect(readView(new URLSearchParams(writeView(view).toString()))).toEqual(view);
    expect(fieldsSet(view.filter)).toBe(5);
  });

  it("is empty where nothing is narrowed", () => {
    expect(writeView(readView(new URLSearchParams(""))).toString()).toBe("");
  });

  it("leaves out what cannot be meant", () => {
    const hostile = "line=../x&verdict=bad&state=all&model_version=-1&since_ms=x&order=random&answered_by=" + "x".repeat(65) + "&evil=1&camera=cam-1";
    const view = readView(new URLSearchParams(hostile));
    expect(view).toEqual({ filter: { ...NO_FILTER, camera: "cam-1" }, order: "newest", find: "" });
  });

  it("is what an export asks for", () => {
    const filter = { ...NO_FILTER, line: "line-1" };
    expect(exportUrl(filter, { layout: "mvtec", modelToo: true, reviewers: false })).toBe(
      "/api/v1/exports?line=line-1&layout=mvtec&labels=settled-else-model",
    );
    expect(filterQuery(NO_FILTER).toString()).toBe("");
  });

  it("has times of this machine's clock", () => {
    const atMs = String(new Date(2026, 8, 21, 9, 5).getTime());
    expect(localTime(atMs)).toBe("2026-09-21T09:05");
    expect(fromLocalTime("2026-09-21T09:05")).toBe(atMs);
    expect([localTime(""), localTime("9".repeat(17)), fromLocalTime(""), fromLocalTime("soon")]).toEqual(["", "", "", ""]);
  });

  it("counts the cases of a state", () => {
    const stats = { open: 3, reviewed: 2, disputed: 1, verdict_right: 0, false_rejects: 0, escapes: 0, wrong_reason: 0 };
    expect([inState(stats, ""), inState(stats, "reviewed")]).toEqual([6, 2]);
  });
});

describe("a selection", () => {
  const order = ["a", "b", "c", "d", "e"];

  it("takes one more and one less", () => {
    const one = toggled(NOTHING, "b");
    expect([...one.ids]).toEqual(["b"]);
    expect([...toggled(one, "b").ids]).toEqual([]);
  });

  it("extends from where it began, either way, and keeps what was chosen", () => {
    const first = toggled(toggled(NOTHING, "a"), "d");
    expect([...extended(first, order, "e").ids].sort()).toEqual(["a", "d", "e"]);
    const back = extended(first, order, "c");
    expect([...back.ids].sort()).toEqual(["a", "c", "d"]);
    expect([...extended(back, order, "e").ids].sort()).toEqual(["a", "c", "d", "e"]);
  });

  it("begins anew where its beginning is gone", () => {
    expect([...extended({ ids: new Set(), anchor: "gone" }, order, "c").ids]).toEqual(["c"]);
    expect([...extended(NOTHING, order, "c").ids]).toEqual(["c"]);
  });

  it("keeps only what is still there", () => {
    const all = everything(order);
    expect(among(all, order)).toBe(all);
    expect([...among(all, ["b", "x"]).ids]).toEqual(["b"]);
  });

  it("moves by arrows within the grid", () => {
    expect(neighbour(0, "ArrowLeft", 4, 10)).toBe(0);
    expect(neighbour(0, "ArrowDown", 4, 10)).toBe(4);
    expect(neighbour(8, "ArrowDown", 4, 10)).toBe(8);
    expect(neighbour(5, "ArrowUp", 4, 10)).toBe(1);
    expect([neighbour(5, "Home", 4, 10), neighbour(5, "End", 4, 10)]).toEqual([0, 9]);
  });
});

describe("many answers", () => {
  const cases = Array.from({ length: 120 }, (_, number) => queued(number));
  let count = 0;
  const newId = () => `id-${count++}`;
  const problemOf = () => ({ reason: "offline", message: "" });
  const ok = (answer: BulkAnswer): BulkResult => ({ case_id: answer.case_id, review_id: answer.review_id, ok: true, state: "reviewed" });

  it("carry the verdict that was seen where it matters", () => {
    expect(bulkAnswers([queued(1, "review")], "good", newId)[0]?.verdict).toBe("review");
    expect(bulkAnswers([queued(1)], "undo", newId)[0]).not.toHaveProperty("verdict");
  });

  it("go in batches", async () => {
    const sizes: number[] = [];
    const progress: number[] = [];
    const answers = bulkAnswers(cases, "good", newId);
    const outcome = await sendAll("good", answers, (some) => {
      sizes.push(some.length);
      return Promise.resolve(some.map(ok));
    }, problemOf, (done) => progress.push(done));
    expect(sizes).toEqual([BATCH, BATCH, 20]);
    expect(progress.at(-1)).toBe(120);
    expect([outcome.taken.length, outcome.problem]).toEqual([120, null]);
  });

  it("keep their ids when they wait for the server", async () => {
    const answers = bulkAnswers(cases, "good", newId);
    let calls = 0;
    const outcome = await sendAll("good", answers, (some) => (++calls === 2 ? Promise.reject(new Error("away")) : Promise.resolve(some.map(ok))), problemOf);
    expect(calls).toBe(2);
    expect(outcome.taken.length).toBe(BATCH);
    expect(outcome.waiting).toEqual(answers.slice(BATCH));
    expect(outcome.problem?.reason).toBe("offline");
  });

  it("are told apart by what became of them", async () => {
    const answers = bulkAnswers(cases.slice(0, 3), "good", newId);
    const outcome = await sendAll("good", answers, (some) => Promise.resolve(some.map((answer, at): BulkResult => {
      if (at === 0) return ok(answer);
      return { case_id: answer.case_id, review_id: answer.review_id, ok: false, retriable: at === 2, error: { reason: "r", message: "m" } };
    })), problemOf);
    expect([outcome.taken.length, outcome.refused.length, outcome.waiting.length]).toEqual([1, 1, 1]);
  });

  it("change what is on screen", () => {
    expect(answered(queued(1), "good", "reviewed")).toMatchObject({ state: "reviewed", settled_verdict: "pass" });
    expect(answered(queued(1), "defective", "disputed")).toMatchObject({ state: "disputed", settled_verdict: null });
    expect(answered(queued(1, "fail", { state: "reviewed", settled_verdict: "pass" }), "undo", "open")).toMatchObject({ state: "open", settled_verdict: null });
    const one = queued(1);
    expect(answered(one, "skip", "open")).toBe(one);
  });
});

describe("rows that are drawn", () => {
  it("are those near the screen, however many there are", () => {
    const shape = shapeOf(1_400);
    expect(shape.columns).toBe(7);
    const rows = rowsAt(shape, 10_000, -100_000, 900);
    expect(rows.to - rows.from).toBeLessThan(14);
    expect(rows.from * shape.rowPx).toBeLessThan(100_000);
    expect(rows.to * shape.rowPx).toBeGreaterThan(100_900);
  });

  it("stay within what there is", () => {
    const shape = shapeOf(300);
    expect(shape.columns).toBe(1);
    expect(rowsAt(shape, 3, 200, 900)).toEqual({ from: 0, to: 3 });
    expect(rowsAt(shape, 3, -90_000, 900)).toEqual({ from: 2, to: 3 });
  });
});
