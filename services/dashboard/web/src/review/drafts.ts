import type { Said } from "./answers";
import type { Stroke } from "./mask";
import type { Shelf } from "./shelf";

/** A correction that was begun and not sent. */
export interface Draft {
  caseId: string;
  said: Said;
  defectClass: string;
  note: string;
  /** The strokes themselves, so that they can still be taken back one by one after a crash. */
  strokes: readonly Stroke[];
  /** The polygon is sent as an area instead of the drawing as a mask. */
  asArea: boolean;
  savedAtMs: number;
}

export type DraftFields = Omit<Draft, "caseId" | "savedAtMs">;

const SETTLE_MS = 300;

/** Drafts by case, on the browser's shelf a moment after each change. */
export class Drafts {
  private readonly changed = new Map<string, Draft>();
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly shelf: Shelf<Draft>,
    /** Told whether what was changed last could be kept. */
    private readonly onKept: (kept: boolean) => void = () => undefined,
    /** Whoever is signed in; nobody else's drafts are shown to them. Null where people type their names. */
    private readonly owner: string | null = null,
  ) {}

  async load(caseId: string): Promise<Draft | null> {
    const waiting = this.changed.get(caseId);
    if (waiting) return waiting;
    try {
      return (await this.shelf.get(this.key(caseId))) ?? null;
    } catch {
      return null;
    }
  }

  /** Keep a draft soon. */
  save(caseId: string, fields: DraftFields): void {
    this.changed.set(caseId, { ...fields, caseId, savedAtMs: Date.now() });
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.flush(), SETTLE_MS);
  }

  /** Keep now what has changed: the page may be about to go. */
  async flush(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const drafts = [...this.changed.values()];
    this.changed.clear();
    try {
      await Promise.all(drafts.map((one) => this.shelf.put(this.key(one.caseId), one)));
      if (drafts.length > 0) this.onKept(true);
    } catch {
      this.onKept(false);
    }
  }

  /** Forget a draft that was sent at `sentAtMs`; one that was begun after that stays. */
  async remove(caseId: string, sentAtMs = Number.POSITIVE_INFINITY): Promise<void> {
    const draft = await this.load(caseId);
    if (!draft || draft.savedAtMs > sentAtMs) return;
    this.changed.delete(caseId);
    await this.shelf.remove(this.key(caseId)).catch(() => undefined);
  }

  private key(caseId: string): string {
    return this.owner === null ? caseId : `${caseId} ${this.owner}`;
  }
}
