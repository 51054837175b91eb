import { useSyncExternalStore } from "react";
import { fetchChanges, type Change } from "../api/models";
import { readChoice, storeChoice } from "../theme/choice";
import { isNews, markOf } from "./changes";

const EVERY_MS = 60_000;

/** Looks now and then whether a new model came; asks only while somebody wants to know. */
class ChangeWatch {
  private newest: Change | undefined;
  private seen = readChoice("changes-seen");
  private readonly listeners = new Set<() => void>();
  private timer: ReturnType<typeof setTimeout> | null = null;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) void this.look();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size > 0 || this.timer === null) return;
      clearTimeout(this.timer);
      this.timer = null;
    };
  };

  readonly news = (): boolean => isNews(this.newest, this.seen);

  /** The person has seen this one. */
  readonly lookAt = (change: Change): void => {
    if (this.seen !== null && change.at_ms <= Number(this.seen)) return;
    this.seen = markOf(change);
    storeChoice("changes-seen", this.seen);
    this.tell();
  };

  private async look(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.look(), EVERY_MS);
    try {
      const page = await fetchChanges({ reviewer: null, after: null, limit: 1 }, AbortSignal.timeout(15_000));
      this.newest = page.changes[0];
      this.tell();
    } catch {
      // What cannot be asked now is asked again in a minute; a badge is worth no message.
    }
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

const watch = new ChangeWatch();

/** Whether a new model was compared since the person last looked. */
export function useNewChange(): boolean {
  return useSyncExternalStore(watch.subscribe, watch.news);
}

export const markSeen = watch.lookAt;
