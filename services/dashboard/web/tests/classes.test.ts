import { describe, expect, it } from "vitest";
import { en } from "../src/i18n/en";
import { fill } from "../src/i18n";
import { sentLabel } from "../src/pages/review/words";
import { commandOf } from "../src/review/answers";
import { CLASS_KEYS, suggestedClasses } from "../src/review/classes";
import type { Draft } from "../src/review/drafts";
import type { Turn } from "../src/review/session";
import { queued } from "./review-samples";
import { inspection } from "./samples";

const seen = (number: number, verdict: "fail" | "pass" | "review", name: string) =>
  queued(number, verdict, { inspection: inspection(number, { verdict, defect_class: name }) });
const turn = (defectClass: string, product = "disc"): Turn => ({
  reviewId: defectClass, caseId: "c", partId: "p", product, verdict: "fail", said: "elsewhere", atMs: 0, defectClass, draft: null,
});

describe("the classes to choose from", () => {
  it("begin with those used last", () => {
    const turns = [turn("dent"), turn("scratch"), turn(""), turn("crack"), turn("dent")];
    expect(suggestedClasses(seen(0, "fail", "burr"), "elsewhere", turns, [])).toEqual(["dent", "crack", "scratch", "burr"]);
  });

  it("are those of the product", () => {
    const other = queued(1, "fail", { inspection: inspection(1, { verdict: "fail", product: "weld", defect_class: "pores" }) });
    expect(suggestedClasses(seen(0, "fail", "burr"), "elsewhere", [turn("spatter", "weld"), turn("dent")], [other])).toEqual(["dent", "burr"]);
  });

  it("hold the model's own only where its verdict is not what the person disagrees with", () => {
    expect(suggestedClasses(seen(0, "pass", "print_ok"), "wrong", [], [])).toEqual([]);
    expect(suggestedClasses(seen(0, "review", "scratch"), "wrong", [], [])).toEqual(["scratch"]);
    expect(suggestedClasses(seen(0, "fail", "scratch"), "elsewhere", [], [])).toEqual(["scratch"]);
  });

  it("take what waits in the queue before anybody has used one, and are as many as their keys", () => {
    const waiting = ["a", "b", "a", "c", "d", "e", "f", "g"].map((name, number) => seen(number, "fail", name));
    const found = suggestedClasses(seen(9, "pass", ""), "wrong", [], [seen(8, "pass", "good"), ...waiting]);
    expect(found).toEqual(["a", "b", "c", "d", "e", "f"]);
    expect(found).toHaveLength(CLASS_KEYS.length);
  });

  it("have keys that answer nothing", () => {
    for (const key of CLASS_KEYS) expect(commandOf(key)).toBeNull();
  });

  it("are said on the button that sends them", () => {
    const draft: Draft = { caseId: "c", said: "wrong", defectClass: "", note: "", strokes: [], asArea: false, savedAtMs: 0 };
    const say = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);
    expect(sentLabel(draft, "pass", say)).toBe("Wrong: it is defective");
    expect(sentLabel({ ...draft, defectClass: "deep_scratch" }, "pass", say)).toBe("Wrong: it is defective · deep scratch");
  });
});
