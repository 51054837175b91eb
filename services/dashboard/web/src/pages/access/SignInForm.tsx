import { useEffect, useId, useRef, useState, type FormEvent } from "react";
import { elsewhereUrl, fetchSession, signIn } from "../../api/access";
import { ApiError } from "../../api/client";
import { useAccount, useAccountState } from "../../access/hooks";
import { StrongButtonLook } from "../../components/Button";
import { hasMessage, useI18n, type MessageKey } from "../../i18n";
import styles from "./SignInForm.module.css";

const LONGEST_NAME = 64;
const LONGEST_PASSWORD = 1_024;

interface Props {
  title: string;
  text: string;
  /** Whoever has to sign in again; nobody else can go on here. */
  name?: string;
}

/** The one form by which people say who they are, or the way to where they do. */
export function SignInForm({ title, text, name }: Props) {
  const { t } = useI18n();
  const { session } = useAccountState();
  const [problem, setProblem] = useState<MessageKey | null>(readProblem);
  const id = useId();
  return (
    <section className={styles["card"]} aria-labelledby={id}>
      <p className={styles["brand"]}>
        <img src="/icon.svg" width="34" height="34" alt="" />
        {t("app.name")}
      </p>
      <h1 id={id}>{title}</h1>
      <p className={styles["text"]}>{text}</p>
      {problem !== null && (
        <p className={styles["problem"]} role="alert">
          {t(problem)}
        </p>
      )}
      {session?.sign_in === "oidc" ? (
        <Elsewhere />
      ) : (
        <Fields {...(name === undefined ? {} : { owner: name })} onProblem={setProblem} />
      )}
    </section>
  );
}

function Elsewhere() {
  const { t } = useI18n();
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => link.current?.focus(), []);
  return (
    <a ref={link} className={StrongButtonLook} href={elsewhereUrl(location.pathname + location.search)}>
      {t("access.elsewhere")}
    </a>
  );
}

function Fields({ owner, onProblem }: { owner?: string; onProblem: (problem: MessageKey | null) => void }) {
  const { t } = useI18n();
  const account = useAccount();
  const [name, setName] = useState(owner ?? "");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const first = useRef<HTMLInputElement>(null);
  const second = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => (owner === undefined ? first : second).current?.focus(), [owner]);
  const send = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    onProblem(null);
    try {
      await signIn(name.trim(), password);
      // What counts is what the browser sends from now on.
      const session = await fetchSession(new AbortController().signal);
      if (session.person === null) onProblem("access.problem.no_cookie");
      else account.take(session);
    } catch (error) {
      onProblem(problemOf(error));
      setPassword("");
      second.current?.focus();
    } finally {
      setBusy(false);
    }
  };
  return (
    <form onSubmit={(event) => void send(event)}>
      <label htmlFor={`${id}-name`}>{t("access.name")}</label>
      <input id={`${id}-name`} ref={first} value={name} maxLength={LONGEST_NAME} autoComplete="username" autoCapitalize="off"
        spellCheck={false} required readOnly={owner !== undefined} onChange={(event) => setName(event.target.value)} />
      <label htmlFor={`${id}-password`}>{t("access.password")}</label>
      <input id={`${id}-password`} ref={second} type="password" value={password} maxLength={LONGEST_PASSWORD}
        autoComplete="current-password" required onChange={(event) => setPassword(event.target.value)} />
      <button type="submit" className={StrongButtonLook} disabled={busy}>
        {t(busy ? "access.busy" : "access.go")}
      </button>
    </form>
  );
}

function problemOf(error: unknown): MessageKey {
  return keyOf(error instanceof ApiError ? error.problem.reason : "other");
}

function keyOf(reason: string): MessageKey {
  const key = `access.problem.${reason}`;
  return hasMessage(key) ? key : "access.problem.other";
}

/** Why one was sent back here without a session; told once. */
function readProblem(): MessageKey | null {
  const search = new URLSearchParams(location.search);
  const reason = search.get("sign_in");
  if (reason === null) return null;
  search.delete("sign_in");
  const rest = search.toString();
  history.replaceState(history.state, "", location.pathname + (rest === "" ? "" : `?${rest}`));
  return keyOf(reason);
}
