import { ApiError } from "../api/client";
import type { NewReview, NewUndo, Problem, Taken } from "../api/types";
import type { Said } from "./answers";
import type { Shelf } from "./shelf";

interface ParcelBase {
  /** The id of the review inside, which makes sending it twice harmless. */
  id: string;
  caseId: string;
  partId: string;
  /** Orders parcels; two never have the same. */
  atMs: number;
  /** How often it was, or may have been, on its way. */
  attempts: number;
  /** Why the server will not take it; null while it waits. */
  refused: Problem | null;
}

/** One thing that a person said, kept until the server has it. */
export type Parcel = ParcelBase &
  ({ kind: "review"; said: Said | "skip"; body: NewReview } | { kind: "undo"; undoes: string; body: NewUndo });

export type NewParcel = Parcel extends infer P ? (P extends Parcel ? Omit<P, "atMs" | "attempts" | "refused"> : never) : never;

export interface OutboxState {
  parcels: readonly Parcel[];
  /** How many the server does not have yet. */
  waiting: number;
  refused: readonly Parcel[];
  /** The last try failed because the server was away. */
  away: boolean;
  /** Everything that waits is on this browser's shelf; false: it would be lost with the page. */
  kept: boolean;
  /** What other people have left on this browser: it waits until they sign in again. */
  others: number;
}

export type Send = (parcel: Parcel) => Promise<Taken>;
export type TakenListener = (parcel: Parcel, taken: Taken) => void;

/** `away`: no answer can be sent now; `failed`: this one cannot. */
type Outcome = "done" | "away" | "failed";

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

/**
 * Answers on their way to the server. What is put in is on the browser's shelf before it is sent, and stays there until
 * the server has acknowledged it or the person has seen why it was refused. Within a case the order is kept.
 */
export class Outbox {
  private parcels: Parcel[] = [];
  private state: OutboxState = { parcels: [], waiting: 0, refused: [], away: false, kept: true, others: 0 };
  private others = 0;
  private readonly listeners = new Set<() => void>();
  private readonly takenListeners = new Set<TakenListener>();
  private readonly unkept = new Set<string>();
  private readonly sending = new Set<string>();
  private working = false;
  private again = false;
  private failures = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private loading: Promise<void> | null = null;

  constructor(
    private readonly shelf: Shelf<Parcel>,
    private readonly send: Send,
    /** Whoever is signed in: nobody else's answers are sent, shown or changed. Null where people type their names. */
    private readonly owner: string | null = null,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly read = (): OutboxState => this.state;

  /** Told of each parcel that the server has acknowledged. */
  readonly onTaken = (listener: TakenListener): (() => void) => {
    this.takenListeners.add(listener);
    return () => this.takenListeners.delete(listener);
  };

  /** Go on with what an earlier page has left; idempotent. */
  start(): Promise<void> {
    this.loading ??= this.load();
    return this.loading;
  }

  /** Keep a parcel, then send it. Resolves once it is on the shelf, or cannot be put there. */
  async add(fresh: NewParcel): Promise<void> {
    const atMs = Math.max(Date.now(), (this.parcels.at(-1)?.atMs ?? 0) + 1);
    const parcel = { ...fresh, atMs, attempts: 0, refused: null } as Parcel;
    this.parcels = [...this.parcels, parcel];
    // Nobody else knows of it yet: it is not sent before it is kept.
    this.sending.add(parcel.id);
    this.publish();
    await this.keep(parcel);
    this.sending.delete(parcel.id);
    this.sendSoon();
  }

  /** Take a parcel back that has never been on its way; false where the server may know of it. */
  async withdraw(id: string): Promise<boolean> {
    const parcel = this.parcels.find((one) => one.id === id);
    if (!parcel || (parcel.attempts > 0 && parcel.refused === null)) return false;
    await this.drop(id);
    return true;
  }

  /** A person has read why a parcel was refused, and lets it go. */
  async dismiss(id: string): Promise<void> {
    await this.drop(id);
  }

  /** Try a refused parcel once more. */
  async retry(id: string): Promise<void> {
    await this.change(id, { refused: null });
    this.sendSoon();
  }

  /** Try now what waits: the network may be back. */
  readonly hurry = (): void => {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.failures = 0;
    this.sendSoon();
  };

  private async load(): Promise<void> {
    try {
      const all = await this.shelf.all();
      const left = all.filter((one) => this.owner === null || one.body.reviewer === this.owner);
      this.others = all.length - left.length;
      const known = new Set(this.parcels.map((one) => one.id));
      this.parcels = [...left.filter((one) => !known.has(one.id)), ...this.parcels].sort((a, b) => a.atMs - b.atMs);
      this.publish();
      this.sendSoon();
    } catch {
      // Nothing is kept by this browser; what is put in from now on says so.
    }
  }

  private sendSoon(): void {
    if (this.working) this.again = true;
    // A server that is away is asked by the clock; one that fails at a single answer may well take the next.
    else if (this.timer === null || !this.state.away) void this.work();
  }

  private async work(): Promise<void> {
    this.working = true;
    let outcome: Outcome;
    do {
      this.again = false;
      outcome = await this.round();
      if (outcome === "done") this.failures = 0;
      else this.later();
      if ((outcome === "away") !== this.state.away) this.publish(outcome === "away");
    } while (this.again && outcome !== "away");
    this.working = false;
  }

  /** Offer every parcel once; anything but `done` where some must be offered again later. */
  private async round(): Promise<Outcome> {
    const held = new Set<string>();
    let result: Outcome = "done";
    for (const { id, caseId } of this.parcels) {
      const parcel = this.parcels.find((one) => one.id === id);
      if (!parcel || parcel.refused !== null || held.has(caseId)) continue;
      const outcome = this.sending.has(id) ? "done" : await this.offer(parcel);
      if (outcome === "away") return outcome;
      // What follows in the same case waits for it; other cases do not.
      if (outcome === "failed" || this.parcels.some((one) => one.id === id && one.refused === null)) held.add(caseId);
      if (outcome === "failed") result = outcome;
    }
    return result;
  }

  private async offer(parcel: Parcel): Promise<Outcome> {
    this.sending.add(parcel.id);
    try {
      // On the shelf before it is on its way: a page that comes after a crash must know that the server may have it.
      await this.change(parcel.id, { attempts: parcel.attempts + 1 });
      const taken = await this.send(parcel);
      await this.drop(parcel.id);
      for (const listener of this.takenListeners) listener(parcel, taken);
      return "done";
    } catch (error) {
      if (!(error instanceof ApiError)) return "failed";
      if (error.status === 0 || [401, 502, 503, 504].includes(error.status)) return "away";
      // Somebody else has signed in meanwhile: it is kept until its owner is back.
      if (error.problem.reason === "other_person") return "away";
      if (error.status >= 500 || error.status === 408 || error.status === 429) return "failed";
      await this.refuse(parcel, error.problem);
      return "done";
    } finally {
      this.sending.delete(parcel.id);
    }
  }

  private async refuse(parcel: Parcel, problem: Problem): Promise<void> {
    await this.change(parcel.id, { refused: problem });
    // There is nothing to take back of what was never taken.
    const moot = this.parcels.find((one) => one.kind === "undo" && one.undoes === parcel.id);
    if (moot) await this.drop(moot.id);
  }

  private later(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    const waitMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failures);
    this.failures += 1;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.sendSoon();
    }, waitMs);
  }

  private async change(id: string, change: Partial<ParcelBase>): Promise<void> {
    this.parcels = this.parcels.map((one) => (one.id === id ? { ...one, ...change } : one));
    this.publish();
    const changed = this.parcels.find((one) => one.id === id);
    if (changed) await this.keep(changed);
  }

  private async drop(id: string): Promise<void> {
    this.parcels = this.parcels.filter((one) => one.id !== id);
    this.unkept.delete(id);
    this.publish();
    // What cannot be removed is sent again by the next page, which changes nothing.
    await this.shelf.remove(id).catch(() => undefined);
  }

  private async keep(parcel: Parcel): Promise<void> {
    try {
      await this.shelf.put(parcel.id, parcel);
      if (this.unkept.delete(parcel.id)) this.publish();
    } catch {
      this.unkept.add(parcel.id);
      this.publish();
    }
  }

  private publish(away = this.state.away): void {
    const refused = this.parcels.filter((one) => one.refused !== null);
    const waiting = this.parcels.length - refused.length;
    this.state = { parcels: this.parcels, waiting, refused, away: away && waiting > 0, kept: this.unkept.size === 0, others: this.others };
    for (const listener of this.listeners) listener();
  }
}
