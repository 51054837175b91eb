import type { CameraState } from "../../api/types";

/** From here on a detector that is behind is shown as a warning. */
export const FAR_BEHIND_MS = 2_000;

/**
 * How far behind the cameras the detector is: how long the newest frame of any of them waited to be taken. Null where no
 * camera has a fresh verdict: then it is not known, and the age of the newest verdict tells.
 */
export function behindMs(cameras: CameraState[], nowMs: number, staleS: number): number | null {
  const waits = cameras.flatMap(({ latest: [newest] }) =>
    newest && newest.queue_ms !== null && nowMs - newest.decided_at_ms <= staleS * 1000 ? [newest.queue_ms] : [],
  );
  return waits.length > 0 ? Math.max(...waits) : null;
}
