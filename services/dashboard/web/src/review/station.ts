import { ApiError, caseImageUrl, caseOverlayUrl, fetchCase, fetchQueue, fetchQueueStats, followNeighbours, sendReview, sendUndo } from "../api/client";
import type { CaseDetail, ListedReview, NewReview, Problem, QueuedCase, QueueStats, Relation, Verdict } from "../api/types";
import { shownMap, type ShownMap } from "../components/maps";
import { readChoice, storeChoice } from "../theme/choice";
import { answersOf, newId, standing, type Said } from "./answers";
import { Claim } from "./claim";
import { Drafts, type Draft } from "./drafts";
import { areaOf, maskPng } from "./mask";
import { Outbox, type Parcel } from "./outbox";
import { AHEAD, NO_TRAIL, Preloader, again, broughtBack, current, onward, step, upcoming, withCases, withFate, withNext, type Fate, type Trail } from "./queue";
import { readTurns, storeTurns, type Turn } from "./session";
import { browserShelf } from "./shelf";

/** A case with all that is needed to show it at once. */
export interface LoadedCase {
  detail: CaseDetail;
  maps: ShownMap[];
  /** The picture is decoded. False where it could not be, which the viewer then says. */
  decoded: boolean;
  loadedAtMs: number;
}

/** Why a case comes next: it is like one whose verdict was wrong. */
export interface Because {
  relation: Relation;
  caseId: string;
  partId: string;
  said: Said;
  verdict: Verdict;
}

/** What was done last, for the status line. */
export type Event =
  | { kind: "answered"; turn: Turn }
  | { kind: "skipped" | "undone"; partId: string }
  | { kind: "nothing_to_undo" | "no_picture" | "no_map" | "taken_while_open" }
  | { kind: "held" | "done_by_others"; partId: string }
  | { kind: "neighbours"; partId: string; cases: number }
  | { kind: "failed"; problem: Problem };

export interface StationState {
  reviewer: string | null;
  trail: Trail;
  /** Of the case on screen; null while it is on its way. */
  loaded: LoadedCase | null;
  /** Why the case on screen cannot be loaded. */
  caseProblem: Problem | null;
  stats: QueueStats | null;
  /** Why the queue cannot be read; null while it can. */
  queueProblem: Problem | null;
  /** The queue was read once. */
  started: boolean;
  turns: readonly Turn[];
  /** Of cases that come next because they are like another one, by id. */
  because: ReadonlyMap<string, Because>;
  /** Counted, so that the same thing said twice is two events. */
  event: { count: number; what: Event } | null;
  draftsKept: boolean;
}

/** What a person adds to an answer. */
export interface Correction {
  draft: Draft;
  width: number;
  height: number;
}

const PAGE = 12;
const PAGES = 5;
const STATS_MS = 4_000;
const QUIET_STATS_MS = 15_000;
const STALE_MS = 20_000;
const BEHIND_LOADED = 2;
/** Time for a case to come on screen. */
const PAINT_MS = 80;

/** The one place that knows the sitting: the queue, the case on screen, what was said and what can be taken back. */
export class ReviewStation {
  readonly outbox: Outbox;
  readonly drafts: Drafts;
  private state: StationState = {
    reviewer: readChoice("reviewer"),
    trail: NO_TRAIL,
    loaded: null,
    caseProblem: null,
    stats: null,
    queueProblem: null,
    started: false,
    turns: readTurns(),
    because: new Map(),
    event: null,
    draftsKept: true,
  };
  private readonly listeners = new Set<() => void>();
  private readonly preloader = new Preloader<LoadedCase>(loadCase);
  private readonly claim = new Claim((caseId, first) => this.heldByOther(caseId, first));
  /** Answers that are still being packed; an undo waits for them. */
  private readonly packing = new Map<string, Promise<void>>();
  private line: string | null = null;
  private open = false;
  private opening = false;
  private refilling: Promise<void> | null = null;
  private abort = new AbortController();
  private timer: ReturnType<typeof setTimeout> | null = null;
  private settling: ReturnType<typeof setTimeout> | null = null;
  private running = false;
  private paused = false;

  /** @param owner Whoever is signed in; null where people type their names. What others have left here is not theirs. */
  constructor(readonly owner: string | null = null) {
    const send = (parcel: Parcel) =>
      parcel.kind === "review" ? sendReview(parcel.caseId, parcel.body) : sendUndo(parcel.undoes, parcel.body);
    this.outbox = new Outbox(browserShelf<Parcel>("outbox"), send, owner);
    this.drafts = new Drafts(browserShelf<Draft>("drafts"), (kept) => this.update({ draftsKept: kept }), owner);
    if (owner !== null) this.setReviewer(owner);
    this.outbox.onTaken((parcel) => {
      if (parcel.kind !== "review") return;
      void this.drafts.remove(parcel.caseId, parcel.atMs);
      if (parcel.body.verdict_right === "no") void this.follow(parcel);
    });
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly read = (): StationState => this.state;

  /** Send what waits, and keep the number of open cases fresh; idempotent. */
  start(): void {
    if (this.running) return;
    this.running = true;
    void this.outbox.start();
    addEventListener("online", this.outbox.hurry);
    addEventListener("pagehide", this.goAway);
    addEventListener("pageshow", this.comeBack);
    addEventListener("beforeunload", this.warn);
    document.addEventListener("visibilitychange", this.onVisible);
    this.tick();
  }

  /** The session has ended: nothing can be asked until its owner is back, and nothing may get lost until then. */
  pause(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.paused = true;
    void this.drafts.flush();
  }

  /** Its owner signs out: whoever is free gets the case at once. Nothing is reserved until {@link goOn}. */
  async signOff(): Promise<void> {
    this.pause();
    await Promise.all([this.drafts.flush(), this.claim.giveBack()]);
  }

  /** Its owner is back. */
  goOn(): void {
    if (!this.paused) return;
    this.paused = false;
    this.outbox.hurry();
    this.tick();
    this.settle();
  }

  stop(): void {
    this.running = false;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    removeEventListener("online", this.outbox.hurry);
    removeEventListener("pagehide", this.goAway);
    removeEventListener("pageshow", this.comeBack);
    removeEventListener("beforeunload", this.warn);
    document.removeEventListener("visibilitychange", this.onVisible);
    this.goAway();
  }

  /** The page of reviews is on screen: of one line, or with null of all; with this case in front where one is named. */
  enter(line: string | null, caseId: string | null): void {
    if (line !== this.line) {
      this.line = line;
      this.abort.abort();
      this.abort = new AbortController();
      this.refilling = null;
      this.update({ trail: NO_TRAIL, loaded: null, stats: null, started: false });
    }
    this.open = true;
    if (caseId !== null && current(this.state.trail)?.case_id !== caseId) void this.openFirst(caseId);
    this.tick();
    this.settle();
  }

  leave(): void {
    this.open = false;
    void this.drafts.flush();
    this.claim.leave(false);
  }

  setReviewer(name: string): void {
    // Whoever is signed in answers as themselves.
    if (this.owner !== null && name !== this.owner) return;
    this.claim.leave(false);
    storeChoice("reviewer", name);
    // What somebody else said is not this person's to take back.
    if (name !== this.state.reviewer) this.setTurns([]);
    this.update({ reviewer: name });
    this.tick();
    this.settle();
  }

  /** The queue waits until the case that was asked for is in front of it. */
  private async openFirst(caseId: string): Promise<void> {
    this.opening = true;
    await this.openCase(caseId);
    this.opening = false;
    this.settle();
  }

  /** Bring one case on screen, whatever has become of it. */
  async openCase(caseId: string): Promise<void> {
    const { trail } = this.state;
    if (current(trail)?.case_id === caseId) return;
    const known = trail.cases.find((one) => one.case_id === caseId);
    if (known) {
      this.show(broughtBack(trail, known));
      return;
    }
    try {
      const { detail } = await this.preloader.get(caseId);
      this.show(broughtBack(this.state.trail, detail.case));
    } catch (error) {
      this.say({ kind: "failed", problem: problemOf(error) });
    }
  }

  /** Walk without an answer. */
  walk(by: 1 | -1): void {
    const { trail } = this.state;
    const next = step(trail, by);
    if (next.at !== trail.at) this.show(next);
  }

  lookAgain(): void {
    this.show(again(this.state.trail));
  }

  /** Answer the case on screen and move on at once; what was said is on its way by itself. */
  answer(said: Said, shownMethod: string, correction: Correction | null = null): void {
    const one = current(this.state.trail);
    const { reviewer } = this.state;
    if (!one || reviewer === null) return;
    const { verdict, part_id: partId, product } = one.inspection;
    const body: NewReview = {
      review_id: newId(),
      action: "answer",
      ...answersOf(said, verdict, shownMethod !== ""),
      defect_class: correction?.draft.defectClass.trim() ?? "",
      area: [],
      note: correction?.draft.note.trim() ?? "",
      reviewer,
      said_at_ms: Date.now(),
      shown_method: shownMethod,
      mask_png: null,
    };
    const draft = correction?.draft ?? null;
    const { review_id: reviewId, defect_class: defectClass } = body;
    const turn: Turn = { reviewId, caseId: one.case_id, partId, product, verdict, said, atMs: Date.now(), defectClass, draft };
    this.give(turn, this.pack(turn, body, correction));
    this.say({ kind: "answered", turn });
    this.moveOn(one, "answered");
  }

  /** Put the case on screen aside; it stays open. */
  skip(): void {
    const one = current(this.state.trail);
    const { reviewer } = this.state;
    if (!one || reviewer === null) return;
    const { verdict, part_id: partId, product } = one.inspection;
    const body: NewReview = {
      review_id: newId(),
      action: "skip",
      verdict_right: "not_asked",
      reason_right: "not_asked",
      corrected_verdict: null,
      defect_class: "",
      area: [],
      note: "",
      reviewer,
      said_at_ms: Date.now(),
      shown_method: "",
      mask_png: null,
    };
    const { review_id: reviewId } = body;
    const turn: Turn = { reviewId, caseId: one.case_id, partId, product, verdict, said: "skip", atMs: Date.now(), defectClass: "", draft: null };
    this.give(turn, this.pack(turn, body, null));
    this.say({ kind: "skipped", partId });
    this.moveOn(one, "skipped");
  }

  /** Take the last answer of this sitting back, and bring its case on screen. */
  async undoLast(): Promise<void> {
    const turn = this.state.turns.at(-1);
    if (!turn) return this.say({ kind: "nothing_to_undo" });
    await this.undo(turn);
  }

  /** Take one answer of this sitting back. */
  async undo(turn: Turn): Promise<void> {
    this.setTurns(this.state.turns.filter((one) => one !== turn));
    this.say({ kind: "undone", partId: turn.partId });
    if (turn.draft) this.drafts.save(turn.caseId, turn.draft);
    const takenBack = this.takeBack(turn.reviewId, turn.caseId, turn.partId, turn.said === "skip");
    const known = this.state.trail.cases.find((one) => one.case_id === turn.caseId);
    if (known) this.show(broughtBack(this.state.trail, known));
    else await this.openCase(turn.caseId);
    await takenBack;
  }

  /** Take back what the record says that this person said, in whatever sitting. */
  async undoRecorded(review: ListedReview): Promise<void> {
    const turn = this.state.turns.find((one) => one.reviewId === review.review_id);
    if (turn) return this.undo(turn);
    await this.takeBack(review.review_id, review.case_id, review.part_id ?? "", false);
    await this.openCase(review.case_id);
  }

  say(what: Event): void {
    this.update({ event: { count: (this.state.event?.count ?? 0) + 1, what } });
  }

  /** A verdict was wrong: the most similar parts come next, as what was learned of one holds for them first. */
  private async follow({ caseId, partId, body }: Parcel & { kind: "review" }): Promise<void> {
    const { reviewer } = this.state;
    if (reviewer === null || body.reviewer !== reviewer) return;
    try {
      const { neighbours, queued } = await followNeighbours(caseId, reviewer);
      if (reviewer !== this.state.reviewer) return;
      const because = new Map(this.state.because);
      const next = queued.filter((one) => !this.state.trail.fates.has(one.case_id));
      const verdict = body.corrected_verdict === "pass" ? "fail" : "pass";
      for (const one of next) {
        const relation = neighbours.find((other) => other.case_id === one.case_id)?.relation ?? "near_hit";
        because.set(one.case_id, { relation, caseId, partId, said: "wrong", verdict });
      }
      const trail = withNext(this.state.trail, next);
      if (trail === this.state.trail) return;
      const onScreen = current(this.state.trail)?.case_id;
      this.update({ because, trail });
      this.say({ kind: "neighbours", partId, cases: next.filter((one) => one.case_id !== onScreen).length });
      if (onScreen === undefined) this.show(trail);
      else this.settle();
    } catch {
      // They come by themselves with the queue, only later: what makes them cases is done over there.
    }
  }

  private async takeBack(reviewId: string, caseId: string, partId: string, skipped: boolean): Promise<void> {
    const { reviewer } = this.state;
    await this.packing.get(reviewId);
    // A case that was put aside is open anyway.
    if ((await this.outbox.withdraw(reviewId)) || skipped || reviewer === null) return;
    const body = { review_id: newId(), reviewer, said_at_ms: Date.now() };
    await this.outbox.add({ id: body.review_id, kind: "undo", undoes: reviewId, caseId, partId, body });
  }

  private give(turn: Turn, packed: Promise<void>): void {
    this.setTurns([...this.state.turns, turn]);
    this.packing.set(turn.reviewId, packed);
    void packed.finally(() => this.packing.delete(turn.reviewId));
  }

  private async pack(turn: Turn, body: NewReview, correction: Correction | null): Promise<void> {
    let full = body;
    if (correction) {
      const { draft, width, height } = correction;
      // Until the answer is kept, the draft is what would be left of it.
      this.drafts.save(turn.caseId, draft);
      await this.drafts.flush();
      try {
        if (draft.asArea) full = { ...body, area: areaOf(draft.strokes, width, height) };
        else if (draft.strokes.length > 0) full = { ...body, mask_png: await maskPng(draft.strokes, width, height) };
      } catch (error) {
        this.say({ kind: "failed", problem: problemOf(error) });
        this.setTurns(this.state.turns.filter((one) => one !== turn));
        await this.openCase(turn.caseId);
        return;
      }
    }
    const { reviewId: id, caseId, partId, said } = turn;
    await this.outbox.add({ id, kind: "review", caseId, partId, said, body: full });
  }

  private moveOn(from: QueuedCase, fate: Fate): void {
    this.claim.leave(fate === "answered");
    this.show(onward(withFate(this.state.trail, from.case_id, fate)));
  }

  private heldByOther(caseId: string, first: boolean): void {
    const one = current(this.state.trail);
    if (one?.case_id !== caseId) return;
    // Who has looked at it for a while goes on: the two answers are kept beside each other.
    if (!first) return this.say({ kind: "taken_while_open" });
    this.say({ kind: "held", partId: one.inspection.part_id });
    this.moveOn(one, "held");
  }

  /** Put a trail on screen, and get at hand what comes next. */
  private show(trail: Trail): void {
    const one = current(trail);
    const loaded = one ? this.preloader.peek(one.case_id) : null;
    this.update({ trail, loaded, caseProblem: null });
    if (this.settling !== null) clearTimeout(this.settling);
    this.settling = null;
    // First the case comes on screen; what the next ones need would take its time from it.
    if (loaded) this.settling = setTimeout(() => this.settle(), PAINT_MS);
    else this.settle();
  }

  private settle(): void {
    const { trail, reviewer } = this.state;
    if (!this.open || this.opening || this.paused || reviewer === null) return;
    const one = current(trail);
    const next = upcoming(trail).slice(0, AHEAD);
    const behind = trail.cases.slice(Math.max(0, trail.at - BEHIND_LOADED), trail.at).reverse();
    this.preloader.hold([...(one ? [one] : []), ...next, ...behind].map((other) => other.case_id));
    if (one) {
      this.claim.hold(one.case_id, reviewer);
      this.load(one);
    } else {
      this.claim.leave(false);
    }
    if (next.length < AHEAD) void this.refill();
  }

  private load(one: QueuedCase): void {
    const known = this.preloader.peek(one.case_id);
    if (known && Date.now() - known.loadedAtMs > STALE_MS) void this.refresh(one);
    if (known && this.state.loaded === known) return;
    this.preloader.get(one.case_id).then(
      (loaded) => {
        if (current(this.state.trail)?.case_id !== one.case_id) return;
        this.update({ loaded, caseProblem: null });
        this.passIfDone(loaded.detail);
      },
      (error: unknown) => {
        if (current(this.state.trail)?.case_id !== one.case_id) return;
        const problem = problemOf(error);
        if (problem.reason === "not_found") this.moveOn(one, "gone");
        else this.update({ caseProblem: problem });
      },
    );
  }

  /** A case that was loaded a while ago may have been answered since. */
  private async refresh(one: QueuedCase): Promise<void> {
    try {
      const detail = await fetchCase(one.case_id, this.abort.signal);
      if (current(this.state.trail)?.case_id === one.case_id) this.passIfDone(detail);
    } catch {
      // What is on screen is good enough.
    }
  }

  /** Move on from a case that came from the queue as open and that somebody has answered since. */
  private passIfDone(detail: CaseDetail): void {
    const one = current(this.state.trail);
    if (one?.case_id !== detail.case.case_id || one.state !== "open" || detail.case.state === "open") return;
    const own = this.state.turns.some((turn) => turn.caseId === one.case_id) || this.state.trail.fates.has(one.case_id);
    const byOthers = standing(detail.reviews).some((review) => review.reviewer !== this.state.reviewer);
    if (own || !byOthers) return;
    this.say({ kind: "done_by_others", partId: one.inspection.part_id });
    this.moveOn(one, "gone");
  }

  private refill(): Promise<void> {
    this.refilling ??= this.readQueue().finally(() => (this.refilling = null));
    return this.refilling;
  }

  private async readQueue(): Promise<void> {
    const { reviewer } = this.state;
    const { signal } = this.abort;
    if (reviewer === null) return;
    try {
      let after: string | null = null;
      // The first pages may hold nothing but what was put aside.
      for (let page = 0; page < PAGES; page++) {
        const { cases, next }: { cases: QueuedCase[]; next: string | null } = await fetchQueue({ line: this.line, reviewer, after, limit: PAGE }, signal);
        const trail = withCases(this.state.trail, cases);
        const grown = trail.cases.length > this.state.trail.cases.length;
        // Where nothing was left, the case that has come is on screen now.
        this.update({ trail, started: true, queueProblem: null });
        if (grown) this.show(trail);
        after = next;
        if (next === null || upcoming(trail).length >= AHEAD) break;
      }
    } catch (error) {
      if (!signal.aborted) this.update({ queueProblem: problemOf(error) });
    }
  }

  private async readStats(): Promise<void> {
    const { signal } = this.abort;
    try {
      this.update({ stats: await fetchQueueStats(this.line, signal) });
    } catch {
      // The queue says so, once it has to be read again; until then the number is the last one known.
    }
  }

  private tick(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    if (!this.running || this.paused) return;
    this.timer = setTimeout(() => this.tick(), this.open ? STATS_MS : QUIET_STATS_MS);
    if (document.visibilityState === "hidden") return;
    // A screen on which nobody reviews asks for nothing.
    if (this.state.reviewer === null) return;
    void this.readStats();
    if (this.open && !this.opening && upcoming(this.state.trail).length < AHEAD) void this.refill();
  }

  private setTurns(turns: readonly Turn[]): void {
    storeTurns(turns);
    this.update({ turns });
  }

  private readonly goAway = (): void => {
    void this.drafts.flush();
    void this.claim.giveBack();
  };

  /** A page that the browser kept is on screen again, and with it a case that was given back. */
  private readonly comeBack = (event: PageTransitionEvent): void => {
    if (event.persisted) this.settle();
  };

  /** What no shelf holds would go with the page. */
  private readonly warn = (event: BeforeUnloadEvent): void => {
    const { kept, waiting } = this.outbox.read();
    if (!kept && waiting > 0) event.preventDefault();
  };

  private readonly onVisible = (): void => {
    if (document.visibilityState === "hidden") void this.drafts.flush();
    else this.tick();
  };

  private update(change: Partial<StationState>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener();
  }
}

/** The case, its picture and the map that is shown first, decoded: nothing is left to do when it comes on screen. */
async function loadCase(caseId: string, signal: AbortSignal): Promise<LoadedCase> {
  const picture = decodedPicture(caseImageUrl(caseId));
  const detail = await fetchCase(caseId, signal);
  const maps = mapsOf(detail);
  const first = shownMap(maps, null, detail.case.inspection.verdict);
  const [decoded] = await Promise.all([picture, first && decodedPicture(first.url)]);
  return { detail, maps, decoded, loadedAtMs: Date.now() };
}

export function mapsOf({ case: one, explanations }: CaseDetail): ShownMap[] {
  return explanations
    .filter(({ has_map: has }) => has)
    .map((explanation) => ({
      explanation,
      url: caseOverlayUrl(one.case_id, explanation.method, one.explained_at_ms),
      requested: false,
    }));
}

// The browser lets go of what nobody refers to.
const PICTURES_KEPT = 24;
const pictures = new Map<string, HTMLImageElement>();

/** Load and decode a picture ahead; false where that fails. */
async function decodedPicture(url: string): Promise<boolean> {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    return false;
  }
  pictures.delete(url);
  pictures.set(url, image);
  const oldest = pictures.keys().next().value;
  if (pictures.size > PICTURES_KEPT && oldest !== undefined) pictures.delete(oldest);
  return true;
}

function problemOf(error: unknown): Problem {
  return error instanceof ApiError ? error.problem : { reason: "error", message: String(error) };
}
