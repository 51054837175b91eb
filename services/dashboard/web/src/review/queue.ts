import type { QueuedCase } from "../api/types";

/** What became of a case in this browser. */
export type Fate = "answered" | "skipped" | "held" | "gone";

/** The cases of a sitting in the order in which they come, and the one that is looked at. */
export interface Trail {
  cases: readonly QueuedCase[];
  /** Place of the case on screen; the number of cases where there is none left. */
  at: number;
  fates: ReadonlyMap<string, Fate>;
}

export const NO_TRAIL: Trail = { cases: [], at: 0, fates: new Map() };

/** Cases that are kept ahead of the one on screen. */
export const AHEAD = 4;
/** Cases behind it that one can still walk back to. */
const BEHIND = 200;

export function current(trail: Trail): QueuedCase | null {
  return trail.cases[trail.at] ?? null;
}

export function knows(trail: Trail, caseId: string): boolean {
  return trail.cases.some((one) => one.case_id === caseId) || trail.fates.has(caseId);
}

/** The cases after the one on screen that nothing has become of yet. */
export function upcoming(trail: Trail): QueuedCase[] {
  return trail.cases.slice(trail.at + 1).filter((one) => !trail.fates.has(one.case_id));
}

/** New cases at the end; those that are known stay where they are, with what is new of them. */
export function withCases(trail: Trail, fresh: readonly QueuedCase[]): Trail {
  const unknown = fresh.filter((one) => !knows(trail, one.case_id));
  const byId = new Map(fresh.map((one) => [one.case_id, one]));
  const cases = [...trail.cases.map((one) => byId.get(one.case_id) ?? one), ...unknown];
  return unknown.length === 0 && cases.every((one, index) => one === trail.cases[index]) ? trail : { ...trail, cases };
}

/** Cases that come right after the one on screen, in this order; what is on screen or has become something stays. */
export function withNext(trail: Trail, cases: readonly QueuedCase[]): Trail {
  const onScreen = current(trail)?.case_id;
  const next = cases.filter((one) => one.case_id !== onScreen && !trail.fates.has(one.case_id));
  if (next.length === 0) return trail;
  const moved = new Set(next.map((one) => one.case_id));
  const before = trail.cases.slice(0, trail.at + 1).filter((one) => !moved.has(one.case_id));
  const after = trail.cases.slice(trail.at + 1).filter((one) => !moved.has(one.case_id));
  const at = onScreen === undefined ? before.length : before.length - 1;
  return { ...trail, cases: [...before, ...next, ...after], at };
}

/** Something has become of a case. On screen it stays until somebody moves on. */
export function withFate(trail: Trail, caseId: string, fate: Fate): Trail {
  return { ...trail, fates: new Map(trail.fates).set(caseId, fate) };
}

/** The next case that nothing has become of; past the end where there is none. */
export function onward(trail: Trail): Trail {
  const place = trail.cases.findIndex((one, index) => index > trail.at && !trail.fates.has(one.case_id));
  return trimmed({ ...trail, at: place < 0 ? trail.cases.length : place });
}

/** One step without an answer. Back: any case that can still be seen, answered ones too. */
export function step(trail: Trail, by: 1 | -1): Trail {
  if (by > 0) return onward(trail);
  for (let place = trail.at - 1; place >= 0; place--) {
    const fate = trail.fates.get(trail.cases[place]?.case_id ?? "");
    if (fate !== "held" && fate !== "gone") return { ...trail, at: place };
  }
  return trail;
}

/** Bring a case on screen as if nothing had become of it; one that is not in the trail comes in at this place. */
export function broughtBack(trail: Trail, one: QueuedCase): Trail {
  const fates = new Map(trail.fates);
  fates.delete(one.case_id);
  const place = trail.cases.findIndex((other) => other.case_id === one.case_id);
  if (place >= 0) return { ...trail, at: place, fates };
  return { cases: trail.cases.toSpliced(trail.at, 0, one), at: trail.at, fates };
}

/** Open cases that were put aside or passed by, oldest first. */
export function putAside(trail: Trail): QueuedCase[] {
  return trail.cases.filter((one, index) => {
    const fate = trail.fates.get(one.case_id);
    return fate === "skipped" || (fate === undefined && index < trail.at);
  });
}

/** Start again with what was put aside. */
export function again(trail: Trail): Trail {
  const aside = putAside(trail);
  const fates = new Map([...trail.fates].filter(([, fate]) => fate !== "skipped"));
  const others = trail.cases.filter((one) => !aside.includes(one));
  const before = others.filter((one) => trail.fates.has(one.case_id));
  const after = others.filter((one) => !trail.fates.has(one.case_id));
  return { cases: [...before, ...aside, ...after], at: before.length, fates };
}

function trimmed(trail: Trail): Trail {
  const spare = trail.at - BEHIND;
  return spare <= 0 ? trail : { ...trail, cases: trail.cases.slice(spare), at: trail.at - spare };
}

/** Keeps what the next cases need at hand: loads what is asked for, lets go of the rest. */
export class Preloader<T> {
  private readonly loading = new Map<string, { abort: AbortController; value: T | null; promise: Promise<T> }>();

  constructor(private readonly load: (caseId: string, signal: AbortSignal) => Promise<T>) {}

  /** Hold these and no others, in this order of haste. */
  hold(caseIds: readonly string[]): void {
    for (const [caseId, { abort }] of this.loading) {
      if (caseIds.includes(caseId)) continue;
      abort.abort();
      this.loading.delete(caseId);
    }
    for (const caseId of caseIds) void this.get(caseId).catch(() => undefined);
  }

  /** What has been loaded of a case, at once; null while it is on its way. */
  peek(caseId: string): T | null {
    return this.loading.get(caseId)?.value ?? null;
  }

  get(caseId: string): Promise<T> {
    const known = this.loading.get(caseId);
    if (known) return known.promise;
    const abort = new AbortController();
    const entry = { abort, value: null as T | null, promise: this.load(caseId, abort.signal) };
    this.loading.set(caseId, entry);
    entry.promise.then(
      (value) => (entry.value = value),
      () => {
        // The next one who asks tries again.
        if (this.loading.get(caseId) === entry) this.loading.delete(caseId);
      },
    );
    return entry.promise;
  }

  /** Load a case anew when it is asked for next. */
  forget(caseId: string): void {
    this.loading.get(caseId)?.abort.abort();
    this.loading.delete(caseId);
  }
}
