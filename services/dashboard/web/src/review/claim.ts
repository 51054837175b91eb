import { ApiError, claimCase, releaseCase } from "../api/client";

const LEAST_WAIT_MS = 5_000;
// The two clocks may differ; a claim holds for longer than this.
const MOST_WAIT_MS = 30_000;
const RETRY_MS = 10_000;

interface Calls {
  claim: (caseId: string, reviewer: string) => Promise<{ until_ms: number }>;
  release: (caseId: string, reviewer: string) => Promise<void>;
}

/** Reserves the case on screen for one person, for as long as it is there. */
export class Claim {
  private held: { caseId: string; reviewer: string } | null = null;
  private asking: Promise<void> | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** @param onTaken Told when somebody else holds the case; `first`: it was so from the start. */
  constructor(
    private readonly onTaken: (caseId: string, first: boolean) => void,
    private readonly calls: Calls = { claim: claimCase, release: releaseCase },
  ) {}

  /** Hold this case and give the one before back, unless it was answered. */
  hold(caseId: string, reviewer: string): void {
    if (this.held?.caseId === caseId && this.held.reviewer === reviewer) return;
    this.leave(false);
    this.held = { caseId, reviewer };
    const asking = this.ask(true);
    this.asking = asking;
    void asking.finally(() => {
      if (this.asking === asking) this.asking = null;
    });
  }

  /** Let go. An answered case is not given back: nobody else may answer it while the answer is on its way. */
  leave(answered: boolean): void {
    const release = this.letGo();
    if (!release || answered) return;
    // Not before the claim has arrived: the other way round it would outlive the visit.
    if (this.asking) void this.asking.then(release);
    else void release();
  }

  /**
   * Give the case back now, as the page or the session is about to go: what is asked later is not heard any more.
   *
   * @returns When the server has it back, or will not answer.
   */
  async giveBack(): Promise<void> {
    const release = this.letGo();
    if (!release) return;
    const { asking } = this;
    const released = release();
    // Where the page stays for long enough: should the claim arrive after the first try, it is given back by this one.
    await (asking ? Promise.all([released, asking.then(release)]) : released);
  }

  /** Hold nothing any more; gives what returns the case that was held. */
  private letGo(): (() => Promise<void>) | null {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { held } = this;
    this.held = null;
    // A claim that could not be given back ends by itself.
    return held && (() => this.calls.release(held.caseId, held.reviewer).catch(() => undefined));
  }

  private async ask(first: boolean): Promise<void> {
    const asked = this.held;
    if (!asked) return;
    let waitMs = RETRY_MS;
    try {
      const { until_ms: untilMs } = await this.calls.claim(asked.caseId, asked.reviewer);
      waitMs = Math.min(MOST_WAIT_MS, Math.max(LEAST_WAIT_MS, (untilMs - Date.now()) / 2));
    } catch (error) {
      if (this.held !== asked) return;
      if (error instanceof ApiError && error.status === 409) {
        this.held = null;
        this.onTaken(asked.caseId, first);
        return;
      }
      // Without a claim one can still answer: two answers to one case are kept beside each other.
    }
    if (this.held === asked) this.timer = setTimeout(() => void this.ask(false), waitMs);
  }
}
