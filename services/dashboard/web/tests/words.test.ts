import { describe, expect, it } from "vitest";
import { fill } from "../src/i18n";
import { de } from "../src/i18n/de";
import { en } from "../src/i18n/en";
import { makeFormats } from "../src/i18n/format";
import { split, why } from "../src/components/why";
import { inspection } from "./samples";

const english = makeFormats("en-GB");
const marks = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([mark]) => mark).sort();
const say = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);

describe("the catalogues", () => {
  it("fill the same marks in both languages", () => {
    for (const key of Object.keys(en) as (keyof typeof en)[]) expect(marks(de[key]), key).toEqual(marks(en[key]));
  });

  it("say something for every key", () => {
    for (const text of [...Object.values(en), ...Object.values(de)]) expect(text.trim()).not.toBe("");
  });
});

describe("the verdict in plain words", () => {
  it("names the limit that decided", () => {
    expect(why(inspection(1, { score: 0.83, verdict: "fail" }), say, english)).toBe("Score 0.83: fails from 0.68 on.");
    expect(why(inspection(1), say, english)).toContain("passes below 0.55");
    expect(why(inspection(1, { verdict: "review", reason: "unsure", score: 0.6 }), say, english)).toContain("a person decides");
  });

  it("says how many detectors are against the others where that is the reason", () => {
    const disputed = inspection(1, { verdict: "review", reason: "disagreement", score: 0.83, disagreement: 2 / 3 });
    expect(why(disputed, say, english)).toBe(
      "Score 0.83, limit 0.62, but 33% of the detectors are against the others: a person decides.",
    );
    expect(split(disputed, say, english)).toBeNull();
  });

  it("tells of a split that did not decide beside the reason that did", () => {
    const failed = inspection(1, { verdict: "fail", score: 0.83, disagreement: 0.5 });
    expect(why(failed, say, english)).toContain("fails from 0.68 on");
    expect(split(failed, say, english)).toBe("The detectors disagree: 25% of them are against the others.");
    expect(split(inspection(1), say, english)).toBeNull();
  });

  it("does not speak of a score where no model saw the picture", () => {
    const unreadable = inspection(1, { verdict: "review", reason: "unreadable_image", score: null, model_version: 0 });
    expect(why(unreadable, say, english)).not.toMatch(/score/i);
  });
});

describe("numbers", () => {
  it("read as people in the language write them", () => {
    expect(makeFormats("de-DE").score(0.834)).toBe("0,83");
    expect(english.score(0.0004)).toBe("<0.001");
    expect(english.milliseconds(7.25)).toBe("7.3 ms");
    expect(english.milliseconds(1_240)).toBe("1.2 s");
    expect(english.age(12.9)).toBe("12 s");
    expect(english.age(600)).toBe("10 min");
    expect(english.percent(0)).toBe("0%");
  });
});
