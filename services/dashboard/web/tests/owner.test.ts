import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/api/client";
import { Drafts, type Draft } from "../src/review/drafts";
import { Outbox, type Parcel } from "../src/review/outbox";
import { memoryShelf } from "../src/review/shelf";
import { newReview, reviewParcel, taken } from "./review-samples";

const of = (id: string, reviewer: string) => ({ ...reviewParcel(id), body: { ...newReview(id), reviewer } }) as ReturnType<typeof reviewParcel>;

describe("what somebody has left in this browser", () => {
  let kept: Map<string, Parcel>;
  const send = vi.fn((parcel: Parcel) => Promise.resolve(taken(parcel.id)));
  const sent = () => send.mock.calls.map(([parcel]) => `${parcel.id} of ${parcel.body.reviewer}`);

  beforeEach(async () => {
    vi.useFakeTimers();
    send.mockClear();
    kept = new Map();
    const away = vi.fn(() => Promise.reject(new ApiError({ reason: "signed_out", message: "over" }, 401)));
    const olga = new Outbox(memoryShelf(kept), away, "Olga");
    for (const id of ["a", "b"]) await olga.add(of(id, "Olga"));
    await vi.advanceTimersByTimeAsync(1);
    expect(olga.read()).toMatchObject({ waiting: 2, away: true });
  });
  afterEach(() => void vi.useRealTimers());

  it("is not sent, shown or touched while somebody else is signed in", async () => {
    const emil = new Outbox(memoryShelf(kept), send, "Emil");
    await emil.start();
    await emil.add(of("c", "Emil"));
    emil.hurry();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sent()).toEqual(["c of Emil"]);
    expect(emil.read()).toMatchObject({ waiting: 0, parcels: [], others: 2 });
    expect([...kept.keys()]).toEqual(["a", "b"]);
  });

  it("goes out under its own name once its owner is back", async () => {
    const olga = new Outbox(memoryShelf(kept), send, "Olga");
    await olga.start();
    await vi.advanceTimersByTimeAsync(1);
    expect(sent()).toEqual(["a of Olga", "b of Olga"]);
    expect(kept.size).toBe(0);
  });

  it("waits when the server finds somebody else signed in, instead of being refused", async () => {
    const other = vi.fn(() => Promise.reject(new ApiError({ reason: "other_person", message: "Emil" }, 403)));
    const olga = new Outbox(memoryShelf(kept), other, "Olga");
    await olga.start();
    await vi.advanceTimersByTimeAsync(1);
    expect(olga.read()).toMatchObject({ waiting: 2, away: true, refused: [] });
    expect(other).toHaveBeenCalledTimes(1);
  });

  it("is sent as before where people type their names", async () => {
    const anybody = new Outbox(memoryShelf(kept), send);
    await anybody.start();
    await vi.advanceTimersByTimeAsync(1);
    expect(sent()).toEqual(["a of Olga", "b of Olga"]);
  });

  it("includes drafts, which nobody else sees", async () => {
    const shelf = memoryShelf<Draft>();
    const draft = { said: "elsewhere" as const, defectClass: "", note: "mine", strokes: [], asArea: false };
    const olga = new Drafts(shelf, undefined, "Olga");
    olga.save("case-1", draft);
    await olga.flush();
    expect(await new Drafts(shelf, undefined, "Emil").load("case-1")).toBeNull();
    expect(await new Drafts(shelf).load("case-1")).toBeNull();
    expect(await new Drafts(shelf, undefined, "Olga").load("case-1")).toMatchObject({ note: "mine", caseId: "case-1" });
    await new Drafts(shelf, undefined, "Emil").remove("case-1");
    await new Drafts(shelf, undefined, "Olga").remove("case-1");
    expect(await new Drafts(shelf, undefined, "Olga").load("case-1")).toBeNull();
  });
});
