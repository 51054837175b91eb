/** What requests know of the session: whether somebody is there, and when it may be over. */

const AWAY_MS = 60_000;
const listeners = new Set<() => void>();
let lastInputMs = 0;

/** Told when an answer says, or may say, that nobody is signed in any more, or somebody else is. */
export function onSessionDoubt(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function doubtSession(): void {
  for (const listener of listeners) listener();
}

/** Somebody touches, types or moves: requests say so from now on for a minute. */
export function watchInput(): () => void {
  const seen = () => (lastInputMs = Date.now());
  const names = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;
  for (const name of names) addEventListener(name, seen, { capture: true, passive: true });
  return () => {
    for (const name of names) removeEventListener(name, seen, { capture: true });
  };
}

/** What a page asks for by itself does not keep a session alive; what a person does, does. */
export function activityHeader(nowMs = Date.now()): Record<string, string> {
  return nowMs - lastInputMs < AWAY_MS ? { "X-Sightline-Active": "1" } : {};
}
