import { describe, expect, it } from "vitest";
import type { Explanation } from "../src/api/types";
import { fill } from "../src/i18n";
import { en } from "../src/i18n/en";
import { makeFormats } from "../src/i18n/format";
import { found, methodName, together, whyNoMap } from "../src/components/mapWords";
import { NO_MAP, agreementOf, findingOf, nextChoice, otherMethods, shownMap, spotOf, type ShownMap } from "../src/components/maps";
import { explanation } from "./samples";

const english = makeFormats("en-GB");
const say = (key: keyof typeof en, values?: Record<string, string | number>) => fill(en[key], values);
const maps = (...all: Explanation[]): ShownMap[] => all.map((one) => ({ explanation: one, url: one.method, requested: false }));
const soft = explanation("invrise-soft");
const cam = explanation("gradcam", { grade: "C" });

describe("which map lies over the picture", () => {
  it("is the first one of a part that did not pass, until somebody chooses", () => {
    expect(shownMap(maps(soft, cam), null, "fail")?.explanation).toBe(soft);
    expect(shownMap(maps(soft, cam), "gradcam", "review")?.explanation).toBe(cam);
    expect(shownMap(maps(soft, cam), NO_MAP, "fail")).toBeNull();
  });

  it("is none on a part that passed, unless it was chosen", () => {
    expect(shownMap(maps(soft), null, "pass")).toBeNull();
    expect(shownMap(maps(soft), "invrise-soft", "pass")?.explanation).toBe(soft);
  });

  it("is never by itself one that is not to be gone by", () => {
    const bad = explanation("rise", { grade: "D" });
    expect(shownMap(maps(bad, cam), null, "fail")?.explanation).toBe(cam);
    expect(shownMap(maps(bad), null, "fail")).toBeNull();
    expect(shownMap(maps(bad), "rise", "fail")?.explanation).toBe(bad);
  });

  it("falls back where a part has no map by the chosen method", () => {
    expect(shownMap(maps(soft), "gradcam", "fail")?.explanation).toBe(soft);
    expect(shownMap([], "gradcam", "fail")).toBeNull();
  });

  it("goes round all maps and none with one key", () => {
    const [first, second] = maps(soft, cam) as [ShownMap, ShownMap];
    expect(nextChoice([first, second], null)).toBe("invrise-soft");
    expect(nextChoice([first, second], first)).toBe("gradcam");
    expect(nextChoice([first, second], second)).toBe(NO_MAP);
  });
});

describe("what a map found", () => {
  it("is said with its place, as people point", () => {
    expect(spotOf({ x: 0.9, y: 0.1 })).toBe("top_right");
    expect(spotOf({ x: 0.5, y: 0.5 })).toBe("middle_centre");
    expect(spotOf({ x: 1, y: 1 })).toBe("bottom_right");
    expect(found(soft, say, english)).toBe("Marks 4% of the picture, most strongly at the top right.");
  });

  it("is nothing where the map is as on good parts", () => {
    const calm = explanation("rise", { coloured_share: 0 });
    expect(findingOf(calm)).toBe("calm");
    expect(found(calm, say, english)).toMatch(/stands out/);
  });

  it("claims no share without a calibration", () => {
    const loose = explanation("rise", { coloured_share: null, scale: { calibrated: false, low: 0, high: 0 } });
    expect(found(loose, say, english)).toMatch(/not calibrated/);
    expect(found(loose, say, english)).not.toMatch(/%/);
  });

  it("says whether two methods go together only where there are two maps", () => {
    expect(together([soft, cam], 0.68, say, english)).toBe(
      "InvRISE soft and Grad-CAM point to the same place (overlap 68%).",
    );
    expect(agreementOf(0.1)).toBe("different");
    expect(agreementOf(0.3)).toBe("partly");
    expect(together([soft], 0.68, say, english)).toBe("");
    expect(together([soft, explanation("gradcam", { has_map: false })], 0.68, say, english)).toBe("");
    expect(together([soft, cam], null, say, english)).toBe("");
  });
});

describe("words", () => {
  it("say why there is no map, in the service's words where the reason is new", () => {
    expect(whyNoMap({ reason: "no_conv_layers", detail: "x" }, say)).toMatch(/no convolution layers/);
    expect(whyNoMap({ reason: "brand_new", detail: "the moon was full" }, say)).toBe("the moon was full");
    expect(whyNoMap({ reason: "image_truncated", detail: "x" }, say)).toMatch(/cannot be used/);
    expect(whyNoMap({ reason: "brand_new", detail: "" }, say)).toMatch(/failed/);
  });

  it("name a method that is not known here by its own name", () => {
    expect(methodName("gradcam", say)).toBe("Grad-CAM");
    expect(methodName("utrad", say)).toBe("utrad");
  });

  it("offer only methods that the part has no map of", () => {
    const explained = { state: "explained", at_ms: 1, agreement: null, methods: ["rise", "gradcam"] } as const;
    expect(otherMethods({ ...explained, methods: [...explained.methods] }, maps(cam))).toEqual(["rise"]);
  });
});
