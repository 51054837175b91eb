import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Account } from "../src/access/account";
import type { Session } from "../src/api/access";
import { fetchQueueStats } from "../src/api/client";
import { activityHeader, watchInput } from "../src/api/session";

const session = (name: string | null, change: Partial<Session> = {}): Session => ({
  sign_in: "local",
  person: name === null ? null : { name, role: "operator" },
  expires_ms: name === null ? null : 1_000,
  has_password: name !== null,
  may: name === null ? [] : ["see", "answer", "explain"],
  ...change,
});

describe("the account", () => {
  const reload = vi.fn();
  const goHome = vi.fn();
  let account: Account;
  let answer: () => Response;
  const asked = vi.fn(() => Promise.resolve(answer()));
  const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });
  const settled = () => vi.advanceTimersByTimeAsync(1);

  beforeEach(() => {
    vi.useFakeTimers();
    reload.mockClear();
    goHome.mockClear();
    asked.mockClear();
    vi.stubGlobal("fetch", asked);
    answer = () => json(session("Olga"));
    account = new Account(reload, goHome);
  });
  afterEach(() => {
    account.stop();
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  it("asks the server who is signed in, again while it does not answer", async () => {
    answer = () => json({}, 503);
    account.start();
    await settled();
    expect(account.read().session).toBeNull();
    answer = () => json(session("Olga"));
    await vi.advanceTimersByTimeAsync(2_000);
    expect(account.read()).toMatchObject({ session: { person: { name: "Olga" } }, lost: false });
    expect([account.may("answer"), account.may("users")]).toEqual([true, false]);
  });

  it("knows of the end of a session by the first request that is refused, and keeps whose it was", async () => {
    account.start();
    await settled();
    answer = () => json({ error: { reason: "signed_out", message: "over" } }, 401);
    await fetchQueueStats(null, new AbortController().signal).catch(() => undefined);
    answer = () => json(session(null));
    await account.check();
    await account.check();
    expect(account.read()).toMatchObject({ session: { person: { name: "Olga" } }, lost: true });
    account.take(session("Olga"));
    expect(account.read().lost).toBe(false);
    expect(reload).not.toHaveBeenCalled();
  });

  it("notices the end of a session that nobody uses", async () => {
    account.start();
    await settled();
    answer = () => json(session(null));
    await vi.advanceTimersByTimeAsync(61_000);
    expect(account.read().lost).toBe(true);
  });

  it.each([["Emil", {}], ["Olga", { person: { name: "Olga", role: "admin" as const } }]])(
    "loads the page anew for somebody else: %s",
    async (name, change) => {
      account.start();
      await settled();
      account.take(session(name, change));
      expect(reload).toHaveBeenCalledTimes(1);
      expect(account.read().session?.person?.name).toBe("Olga");
    },
  );

  it("signs out after everything was given back, and does not wait for what hangs", async () => {
    const order: string[] = [];
    asked.mockImplementation(() => {
      order.push("signed out");
      return Promise.resolve(answer());
    });
    const stay = vi.fn();
    account.onSignOut({ leave: () => Promise.resolve(void order.push("gave back")), stay });
    const end = account.onSignOut({ leave: () => new Promise(() => undefined), stay });
    const leaving = account.signOut();
    await settled();
    expect(order).toEqual(["gave back"]);
    await vi.advanceTimersByTimeAsync(2_000);
    await leaving;
    expect(order).toEqual(["gave back", "signed out"]);
    expect(goHome).toHaveBeenCalledTimes(1);
    expect(stay).not.toHaveBeenCalled();
    end();
    answer = () => json({}, 503);
    await expect(account.signOut()).rejects.toThrow("503");
    expect(stay).toHaveBeenCalledTimes(1);
    expect(goHome).toHaveBeenCalledTimes(1);
    asked.mockReset().mockImplementation(() => Promise.resolve(answer()));
  });

  it("asks once however many requests are refused at the same time", async () => {
    account.start();
    await settled();
    asked.mockClear();
    await Promise.all([account.check(), account.check(), account.check()]);
    expect(asked).toHaveBeenCalledTimes(1);
  });

  it("is not in doubt where a password is wrong", async () => {
    account.start();
    await settled();
    asked.mockClear();
    answer = () => json({ error: { reason: "wrong_credentials", message: "no" } }, 401);
    await fetchQueueStats(null, new AbortController().signal).catch(() => undefined);
    await settled();
    expect(asked).toHaveBeenCalledTimes(1);
  });
});

describe("a request", () => {
  it("says that somebody is there for a minute after they touched anything", () => {
    const stop = watchInput();
    dispatchEvent(new Event("pointerdown"));
    expect(activityHeader()).toEqual({ "X-Sightline-Active": "1" });
    expect(activityHeader(Date.now() + 61_000)).toEqual({});
    stop();
  });
});
