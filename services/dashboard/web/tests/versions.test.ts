import { describe, expect, it } from "vitest";
import type { Alias, AliasState, ModelVersion } from "../src/api/models";
import { addedIn, firstPair, inCommon, isRate, madeLive, roleOf, versionsOf } from "../src/models/versions";

const state = (some: Partial<AliasState> = {}): AliasState => ({
  revision: 5, live_version: 3, previous_version: 2, shadow_version: 0, candidate_versions: [4], action: "add",
  actor: "mira", at_ms: 5, note: "", ...some,
});

const alias = (some: Partial<Alias> = {}): Alias => ({
  ...state(), alias: "default", stored_versions: [1, 2, 3, 4],
  history: [state(), state({ revision: 4, action: "promote", candidate_versions: [], actor: "ben" })], ...some,
});

const version = (metrics: ModelVersion["metrics"]): ModelVersion => ({
  alias: "default", version: 1, architecture: "customnet", classes: ["good", "defect"],
  preprocessing: { mode: "letterbox", width_px: 224, height_px: 224 },
  operating_point: { threshold: 0.5, review_low: 0.4, review_high: 0.6 },
  calibration: { rule: "escape_rate", target: 0.1, confidence: 0.95 },
  lineage: { source: "simulation", description: "", n_train: 1, n_calibration: 1, n_holdout: 1, parent: "", backbone_weights: "" },
  metrics, code_version: "0.1.0", created_at_ms: 1, size_bytes: 1,
});

const metric = (value: number) => ({ value, low: value - 0.1, high: value + 0.1, n: 10 });

describe("versions of an alias", () => {
  it("are listed the newest first with the part that each plays", () => {
    expect(versionsOf(alias())).toEqual([4, 3, 2, 1]);
    expect(versionsOf(alias()).map((one) => roleOf(alias(), one))).toEqual(["candidate", "live", "previous", "retired"]);
  });

  it("are known without the store, but for those that are retired", () => {
    expect(versionsOf(alias({ stored_versions: null }))).toEqual([4, 3, 2]);
  });

  it("know who made the live one live, as long as the broker still has it", () => {
    expect(madeLive(alias())?.actor).toBe("ben");
    expect(madeLive(alias({ history: [state()] }))).toBeNull();
  });

  it("begin with the comparison of what decides with what decided", () => {
    expect(firstPair(alias())).toEqual([2, 3]);
    expect(firstPair(alias({ previous_version: 0 }))).toEqual([4, 3]);
    expect(firstPair(alias({ previous_version: 0, candidate_versions: [], stored_versions: [3] }))).toBeNull();
  });

  it("are compared by what both were measured at, what counts on the line first", () => {
    const left = version({ auroc: metric(0.9), escape_rate: metric(0.1), zeta: metric(1) });
    const right = version({ escape_rate: metric(0.2), auroc: metric(0.8) });
    expect(inCommon(left, right).map((one) => one.name)).toEqual(["escape_rate", "auroc"]);
    expect([isRate("escape_rate"), isRate("review_rate_good"), isRate("auroc")]).toEqual([true, true, false]);
  });

  it("tell which version was added", () => {
    expect(addedIn(state(), state({ candidate_versions: [] }))).toBe(4);
    expect(addedIn(state({ candidate_versions: [] }), undefined)).toBeNull();
  });
});
