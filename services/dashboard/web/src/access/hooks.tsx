import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import type { Permission } from "../api/access";
import { Account, type AccountState } from "./account";

const AccountContext = createContext<Account | null>(null);

export function AccountProvider({ children }: { children: ReactNode }) {
  const [account] = useState(() => new Account());
  useEffect(() => {
    account.start();
    return () => account.stop();
  }, [account]);
  return <AccountContext value={account}>{children}</AccountContext>;
}

export function useAccount(): Account {
  const account = useContext(AccountContext);
  if (!account) throw new Error("useAccount must be used inside AccountProvider");
  return account;
}

export function useAccountState(): AccountState {
  const account = useAccount();
  return useSyncExternalStore(account.subscribe, account.read);
}

/** Whether whoever is here may do something. The server decides; the page only does not offer what it would refuse. */
export function useMay(permission: Permission): boolean {
  const { session } = useAccountState();
  return session?.may.includes(permission) ?? false;
}

/** The name that answers carry, where somebody is signed in; null where people type it. */
export function useSignedInName(): string | null {
  return useAccountState().session?.person?.name ?? null;
}
