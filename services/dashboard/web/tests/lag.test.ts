import { describe, expect, it } from "vitest";
import type { CameraState, Inspection } from "../src/api/types";
import { behindMs } from "../src/pages/wall/lag";
import { inspection } from "./samples";

const NOW = 1_795_000_000_000;

function camera(...latest: Inspection[]): CameraState {
  return { camera_id: "cam", latest, flagged: [] } as unknown as CameraState;
}

function waited(queueMs: number | null, agoMs: number): CameraState {
  return camera(inspection(1, { queue_ms: queueMs, decided_at_ms: NOW - agoMs }));
}

describe("how far the detector is behind", () => {
  it("is the longest wait of any camera's newest picture", () => {
    expect(behindMs([waited(12, 100), waited(3_400, 100)], NOW, 10)).toBe(3_400);
  });

  it("is not known of cameras that are silent, never seen or not measured", () => {
    expect(behindMs([waited(12, 11_000), camera(), waited(null, 100)], NOW, 10)).toBeNull();
    expect(behindMs([waited(12, 11_000), waited(7, 9_000)], NOW, 10)).toBe(7);
  });
});
