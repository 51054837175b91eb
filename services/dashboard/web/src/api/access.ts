import { BASE, post, request } from "./client";

export type Role = "operator" | "engineer" | "admin";

export const ROLES: Role[] = ["operator", "engineer", "admin"];

export type Permission = "see" | "answer" | "acknowledge" | "explain" | "undo_others" | "bulk" | "export" | "train" | "users" | "audit";

export interface Session {
  /** How people sign in here; `none`: the page is open. */
  sign_in: "none" | "local" | "oidc";
  person: { name: string; role: Role } | null;
  /** When the session is over if nobody uses it until then. */
  expires_ms: number | null;
  /** Whether the person has a password here that can be changed. */
  has_password: boolean;
  may: Permission[];
}

export interface User {
  name: string;
  role: Role;
  /** Has a password here; others sign in elsewhere. */
  is_local: boolean;
  disabled: boolean;
  created_at_ms: number;
  /** Null: never. */
  signed_in_at_ms: number | null;
}

export interface AuditEntry {
  entry_id: number;
  at_ms: number;
  who: string;
  role: string;
  action: string;
  target: string;
  address: string;
  outcome: string;
}

export async function fetchSession(signal: AbortSignal): Promise<Session> {
  return (await (await request(`${BASE}/session`, signal)).json()) as Session;
}

export async function signIn(name: string, password: string): Promise<Session> {
  return (await post(`${BASE}/session`, { name, password })) as Session;
}

export async function signOut(): Promise<void> {
  await post(`${BASE}/session/end`, {});
}

export async function changePassword(old: string, fresh: string): Promise<Session> {
  return (await post(`${BASE}/session/password`, { old, new: fresh })) as Session;
}

/** Where the OpenID provider is asked; it leads back to `back`. */
export function elsewhereUrl(back: string): string {
  return `${BASE}/sign-in/oidc?back=${encodeURIComponent(back)}`;
}

export async function fetchUsers(signal: AbortSignal): Promise<User[]> {
  return ((await (await request(`${BASE}/users`, signal)).json()) as { users: User[] }).users;
}

export async function addUser(user: { name: string; role: Role; password: string }): Promise<User> {
  return (await post(`${BASE}/users`, user)) as User;
}

export async function changeUser(name: string, change: { role?: Role; disabled?: boolean; password?: string }): Promise<User> {
  return (await post(`${BASE}/users/${encodeURIComponent(name)}`, change)) as User;
}

/** One page of what people did, the newest first; `next` is null on the last. */
export async function fetchAudit(after: number | null, signal: AbortSignal): Promise<{ entries: AuditEntry[]; next: number | null }> {
  const query = after === null ? "" : `&after=${after}`;
  return (await (await request(`${BASE}/audit?limit=100${query}`, signal)).json()) as { entries: AuditEntry[]; next: number | null };
}
