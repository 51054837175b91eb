import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/api/client";
import { Outbox, type Parcel } from "../src/review/outbox";
import { memoryShelf, type Shelf } from "../src/review/shelf";
import { reviewParcel, taken, undoParcel } from "./review-samples";

const away = () => new ApiError({ reason: "unavailable", message: "away" }, 503);
const invalid = () => new ApiError({ reason: "invalid_input", message: "a note must be short" }, 422);

describe("the outbox", () => {
  let kept: Map<string, Parcel>;
  let shelf: Shelf<Parcel>;
  let outbox: Outbox;
  const send = vi.fn();
  const sent = () => send.mock.calls.map(([parcel]) => (parcel as Parcel).id);
  const settled = () => vi.advanceTimersByTimeAsync(1);

  beforeEach(() => {
    vi.useFakeTimers();
    kept = new Map();
    shelf = memoryShelf(kept);
    send.mockReset().mockImplementation((parcel: Parcel) => Promise.resolve(taken(parcel.id)));
    outbox = new Outbox(shelf, send);
  });
  afterEach(() => void vi.useRealTimers());

  it("keeps an answer before it sends it, and until it is acknowledged", async () => {
    const onShelf: boolean[] = [];
    send.mockImplementation((parcel: Parcel) => {
      onShelf.push(kept.has(parcel.id));
      return Promise.resolve(taken(parcel.id));
    });
    const heard: string[] = [];
    outbox.onTaken((parcel) => heard.push(parcel.id));
    await outbox.add(reviewParcel("a"));
    await settled();
    expect(onShelf).toEqual([true]);
    expect(kept.size).toBe(0);
    expect(heard).toEqual(["a"]);
    expect(outbox.read()).toMatchObject({ waiting: 0, away: false, kept: true });
  });

  it("says honestly how many wait while the server is away, and sends them in order when it is back", async () => {
    send.mockImplementation(() => Promise.reject(away()));
    for (const id of ["a", "b", "c"]) await outbox.add(reviewParcel(id));
    await settled();
    expect(outbox.read()).toMatchObject({ waiting: 3, away: true });
    send.mockReset().mockImplementation((parcel: Parcel) => Promise.resolve(taken(parcel.id)));
    await vi.advanceTimersByTimeAsync(30_000);
    expect(sent()).toEqual(["a", "b", "c"]);
    expect(outbox.read()).toMatchObject({ waiting: 0, away: false });
  });

  it("asks a server that is away less and less often, and at once when the network is back", async () => {
    send.mockImplementation(() => Promise.reject(away()));
    await outbox.add(reviewParcel("a"));
    await vi.advanceTimersByTimeAsync(60_000);
    const tries = send.mock.calls.length;
    expect(tries).toBeGreaterThanOrEqual(5);
    expect(tries).toBeLessThanOrEqual(7);
    outbox.hurry();
    await settled();
    expect(send).toHaveBeenCalledTimes(tries + 1);
  });

  it("sends the same id again after a lost reply, so that the server knows it for the same answer", async () => {
    send.mockRejectedValueOnce(new ApiError({ reason: "offline", message: "lost" }, 0));
    await outbox.add(reviewParcel("a"));
    await vi.advanceTimersByTimeAsync(2_000);
    expect(sent()).toEqual(["a", "a"]);
    expect(outbox.read().waiting).toBe(0);
  });

  it("goes on with what an earlier page has left", async () => {
    send.mockImplementation(() => Promise.reject(away()));
    await outbox.add(reviewParcel("a"));
    await outbox.add(reviewParcel("b"));
    await settled();
    const later = vi.fn((parcel: Parcel) => Promise.resolve(taken(parcel.id)));
    const next = new Outbox(memoryShelf(kept), later);
    await next.start();
    expect(next.read().waiting).toBe(2);
    await settled();
    expect(later.mock.calls.map(([parcel]) => parcel.id)).toEqual(["a", "b"]);
    expect(kept.size).toBe(0);
  });

  it("shows what was refused with its reason, keeps it over a reload, and lets it go when told", async () => {
    send.mockRejectedValueOnce(invalid());
    await outbox.add(reviewParcel("a"));
    await outbox.add(reviewParcel("b"));
    await settled();
    expect(outbox.read()).toMatchObject({ waiting: 0, refused: [{ id: "a", refused: { message: "a note must be short" } }] });
    const next = new Outbox(memoryShelf(kept), send);
    await next.start();
    await settled();
    expect(next.read().refused.map((one) => one.id)).toEqual(["a"]);
    expect(sent()).toEqual(["a", "b"]);
    await next.dismiss("a");
    expect(kept.size).toBe(0);
  });

  it("tries what was refused once more when told", async () => {
    send.mockRejectedValueOnce(invalid());
    await outbox.add(reviewParcel("a"));
    await settled();
    await outbox.retry("a");
    await settled();
    expect(outbox.read()).toMatchObject({ waiting: 0, refused: [] });
  });

  it("withdraws what was never on its way, and nothing else", async () => {
    send.mockImplementation(() => Promise.reject(away()));
    await outbox.add(reviewParcel("a"));
    await outbox.add(reviewParcel("b"));
    await settled();
    expect(await outbox.withdraw("b")).toBe(true);
    expect(await outbox.withdraw("a")).toBe(false);
    expect(await outbox.withdraw("unknown")).toBe(false);
    expect([...kept.keys()]).toEqual(["a"]);
  });

  it("knows after a crash that an answer may have arrived", async () => {
    send.mockImplementation(() => new Promise(() => undefined));
    await outbox.add(reviewParcel("a"));
    await settled();
    const next = new Outbox(memoryShelf(kept), send);
    await next.start();
    expect(await next.withdraw("a")).toBe(false);
  });

  it("sends an undo after the answer that it takes back, never before, and holds up no other case", async () => {
    let broken = true;
    send.mockImplementation((parcel: Parcel) => {
      if (parcel.id === "a" && broken) return Promise.reject(new ApiError({ reason: "http", message: "broken" }, 500));
      return Promise.resolve(taken(parcel.id));
    });
    await outbox.add(reviewParcel("a"));
    await outbox.add(undoParcel("u", "a"));
    await outbox.add(reviewParcel("b"));
    await settled();
    expect(sent()).toContain("b");
    expect(sent()).not.toContain("u");
    expect(outbox.read()).toMatchObject({ waiting: 2, away: false });
    broken = false;
    await vi.advanceTimersByTimeAsync(30_000);
    expect(sent().slice(-2)).toEqual(["a", "u"]);
    expect(outbox.read().waiting).toBe(0);
  });

  it("drops the undo of an answer that was refused", async () => {
    send.mockRejectedValueOnce(invalid());
    const adding = outbox.add(reviewParcel("a"));
    const undoing = outbox.add(undoParcel("u", "a"));
    await Promise.all([adding, undoing]);
    await settled();
    expect(sent()).toEqual(["a"]);
    expect(outbox.read().parcels.map((one) => one.id)).toEqual(["a"]);
  });

  it("sends what this browser cannot keep all the same, and says that it is not kept", async () => {
    const full: Shelf<Parcel> = { ...shelf, put: () => Promise.reject(new Error("no room")), all: () => Promise.reject(new Error("none")) };
    send.mockRejectedValueOnce(away());
    const next = new Outbox(full, send);
    await next.start();
    await next.add(reviewParcel("a"));
    await settled();
    expect(next.read()).toMatchObject({ waiting: 1, kept: false });
    await vi.advanceTimersByTimeAsync(2_000);
    expect(next.read()).toMatchObject({ waiting: 0, kept: true });
  });
});
