import { fetchSession, signOut, type Permission, type Session } from "../api/access";
import { onSessionDoubt, watchInput } from "../api/session";

export interface AccountState {
  /** Null until the server has said. */
  session: Session | null;
  /** The session ended while the page was in use. What was begun stays until its owner is back. */
  lost: boolean;
}

const RETRY_MS = 2_000;
const LOOK_MS = 60_000;
/** Signing out waits no longer than this for what somebody leaves behind. */
const LEAVE_MS = 2_000;

/** Has something to give back before its owner signs out. */
export interface Leaver {
  leave: () => Promise<void>;
  /** Signing out failed: its owner is still there. */
  stay: () => void;
}

/** The one place that knows who is signed in. */
export class Account {
  private state: AccountState = { session: null, lost: false };
  private readonly listeners = new Set<() => void>();
  private readonly leavers = new Set<Leaver>();
  private asking: Promise<void> | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private abort = new AbortController();
  private readonly ends: (() => void)[] = [];

  /**
   * @param reload Loads the page anew: nothing of a former person stays in its memory.
   * @param goHome Leaves for the first page, likewise anew.
   */
  constructor(
    private readonly reload: () => void = () => location.reload(),
    private readonly goHome: () => void = () => location.assign("/"),
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly read = (): AccountState => this.state;

  start(): void {
    this.abort = new AbortController();
    this.ends.push(onSessionDoubt(() => void this.check()), watchInput());
    const onShow = (event: PageTransitionEvent) => {
      // A page that the browser kept may show what its owner has left.
      if (event.persisted) void this.check();
    };
    const onVisible = () => document.visibilityState === "visible" && void this.check();
    addEventListener("pageshow", onShow);
    document.addEventListener("visibilitychange", onVisible);
    this.ends.push(
      () => removeEventListener("pageshow", onShow),
      () => document.removeEventListener("visibilitychange", onVisible),
    );
    void this.check();
  }

  stop(): void {
    this.abort.abort();
    this.asking = null;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    for (const end of this.ends.splice(0)) end();
  }

  may(permission: Permission): boolean {
    return this.state.session?.may.includes(permission) ?? false;
  }

  /** Ask who is signed in; one question at a time. */
  check(): Promise<void> {
    this.asking ??= this.ask().finally(() => (this.asking = null));
    return this.asking;
  }

  /** Told before its owner signs out, while the server still listens to them. */
  onSignOut(leaver: Leaver): () => void {
    this.leavers.add(leaver);
    return () => this.leavers.delete(leaver);
  }

  async signOut(): Promise<void> {
    const leavers = [...this.leavers];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, LEAVE_MS)));
    await Promise.race([Promise.allSettled(leavers.map((one) => one.leave())), late]);
    clearTimeout(timer);
    try {
      await signOut();
    } catch (error) {
      for (const one of leavers) one.stay();
      throw error;
    }
    this.goHome();
  }

  /** Take in what the server says of the session. */
  take(session: Session): void {
    const before = this.state.session?.person ?? null;
    const { person } = session;
    if (before && person && (before.name !== person.name || before.role !== person.role)) {
      this.reload();
      return;
    }
    if (before && !person) this.update({ lost: true });
    else this.update({ session, lost: false });
    this.lookAgain(session);
  }

  private async ask(): Promise<void> {
    const { signal } = this.abort;
    try {
      this.take(await fetchSession(signal));
    } catch {
      if (signal.aborted) return;
      // Nobody knows; once it was known, the pages say themselves that the server is away.
      if (this.state.session === null) this.later(RETRY_MS);
    }
  }

  /** A session that nobody uses ends without a request: then the page says so, too. */
  private lookAgain(session: Session): void {
    if (session.expires_ms !== null) this.later(LOOK_MS);
  }

  private later(waitMs: number): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      void this.check();
    }, waitMs);
  }

  private update(change: Partial<AccountState>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener();
  }
}
