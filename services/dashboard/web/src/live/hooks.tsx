import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import { useAccountState } from "../access/hooks";
import { judge, type Connection } from "./connection";
import { LiveStore, type LiveState } from "./store";

const StoreContext = createContext<LiveStore | null>(null);

export function LiveProvider({ children }: { children: ReactNode }) {
  const [store] = useState(() => new LiveStore());
  const { lost } = useAccountState();
  useEffect(() => {
    if (lost) return;
    store.start();
    return () => store.stop();
  }, [store, lost]);
  return <StoreContext value={store}>{children}</StoreContext>;
}

export function useLiveStore(): LiveStore {
  const store = useContext(StoreContext);
  if (!store) throw new Error("useLiveStore must be used inside LiveProvider");
  return store;
}

export function useLive(): LiveState {
  const store = useLiveStore();
  return useSyncExternalStore(store.subscribe, store.read);
}

/** Call back when the explanation of a frame has come, or may have. */
export function useExplained(frameId: string, callback: () => void): void {
  const store = useLiveStore();
  useEffect(
    () => store.onExplained((frameIds) => (frameIds === null || frameIds.includes(frameId)) && callback()),
    [store, frameId, callback],
  );
}

/** The server's time, moving once a second. */
export function useServerNow(): number {
  const { clockAheadMs } = useLive();
  const [nowMs, setNowMs] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return nowMs + clockAheadMs;
}

export function useConnection(): Connection {
  const live = useLive();
  const nowMs = useServerNow();
  return judge({
    phase: live.phase,
    lostSinceMs: live.lostSinceMs,
    components: live.wall?.components ?? [],
    lastDecidedMs: live.lastDecidedMs,
    nowMs,
    staleS: live.wall?.stale_s ?? 10,
  });
}
