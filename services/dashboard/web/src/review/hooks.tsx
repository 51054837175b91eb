import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import { useAccount, useAccountState, useSignedInName } from "../access/hooks";
import type { OutboxState } from "./outbox";
import { ReviewStation, type StationState } from "./station";

const StationContext = createContext<ReviewStation | null>(null);

/** Answers go out from every page, not only from the one where they are given. */
export function ReviewProvider({ children }: { children: ReactNode }) {
  const account = useAccount();
  const owner = useSignedInName();
  const { lost } = useAccountState();
  // Another person means another page, loaded anew.
  const [station] = useState(() => new ReviewStation(owner));
  useEffect(() => {
    station.start();
    return () => station.stop();
  }, [station]);
  useEffect(() => account.onSignOut({ leave: () => station.signOff(), stay: () => station.goOn() }), [account, station]);
  useEffect(() => {
    if (lost) station.pause();
    else station.goOn();
  }, [station, lost]);
  return <StationContext value={station}>{children}</StationContext>;
}

export function useReviewStation(): ReviewStation {
  const station = useContext(StationContext);
  if (!station) throw new Error("useReviewStation must be used inside ReviewProvider");
  return station;
}

export function useStation(): StationState {
  const station = useReviewStation();
  return useSyncExternalStore(station.subscribe, station.read);
}

export function useOutbox(): OutboxState {
  const { outbox } = useReviewStation();
  return useSyncExternalStore(outbox.subscribe, outbox.read);
}
