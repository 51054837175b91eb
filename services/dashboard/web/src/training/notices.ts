import type { Notice } from "../api/training";

const KEY = "sightline.training-seen";
const KEPT = 200;

/** What a person is told once; a run that ends otherwise later is told again. */
export function markOf(notice: Notice, reviewer: string): string {
  return `${reviewer} ${notice.run_id} ${notice.kind}`;
}

export function unseen(notices: readonly Notice[], reviewer: string, seen: ReadonlySet<string>): Notice[] {
  return notices.filter((one) => !seen.has(markOf(one, reviewer)));
}

/** What was dismissed on this browser. */
export function readSeen(): ReadonlySet<string> {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return new Set(Array.isArray(found) ? found.filter((one) => typeof one === "string") : []);
  } catch {
    return new Set();
  }
}

/** Dismiss one for good; gives what is dismissed by now. */
export function dismiss(mark: string, seen: ReadonlySet<string>): ReadonlySet<string> {
  const all = [...new Set([...seen, mark])].slice(-KEPT);
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // It then lasts until the page is closed.
  }
  return new Set(all);
}
