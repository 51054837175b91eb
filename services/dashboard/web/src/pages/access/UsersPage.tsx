import { useCallback, useEffect, useId, useState, type FormEvent } from "react";
import { ROLES, addUser, changeUser, fetchUsers, type Role, type User } from "../../api/access";
import { ApiError } from "../../api/client";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import { Message } from "../../components/Message";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import styles from "./UsersPage.module.css";

interface Said {
  text: string;
  done: boolean;
}

/** Where an admin lets people in and turns them away. */
export function UsersPage() {
  const { t, format } = useI18n();
  const [users, setUsers] = useState<User[] | null>(null);
  const [said, setSaid] = useState<Said | null>(null);
  useEffect(() => {
    document.title = `${t("users.title")} · ${t("app.name")}`;
  }, [t]);
  const fail = useCallback(
    (error: unknown) => setSaid({ text: t("users.failed", { reason: error instanceof ApiError ? error.problem.message : String(error) }), done: false }),
    [t],
  );
  useEffect(() => {
    const abort = new AbortController();
    fetchUsers(abort.signal).then(setUsers, (error: unknown) => !abort.signal.aborted && fail(error));
    return () => abort.abort();
  }, [fail]);
  const work = async (doing: () => Promise<User>, done: (user: User) => string): Promise<boolean> => {
    setSaid(null);
    try {
      const user = await doing();
      setUsers((now) => [...(now ?? []).filter((one) => one.name !== user.name), user].sort((a, b) => a.name.localeCompare(b.name)));
      setSaid({ text: done(user), done: true });
      return true;
    } catch (error) {
      fail(error);
      return false;
    }
  };
  const change = (user: User, what: Parameters<typeof changeUser>[1]) =>
    work(() => changeUser(user.name, what), ({ name }) => t("users.changed", { name }));
  return (
    <div className={styles["page"]}>
      <h1>{t("users.title")}</h1>
      <p className={styles["text"]}>{t("users.text")}</p>
      <p role="status" className={styles["said"]} data-done={said?.done ?? true} data-testid="said">
        {said?.text ?? ""}
      </p>
      {users === null ? (
        said === null && <Message title={t("users.loading")} />
      ) : (
        <div className={styles["scroll"]} role="region" aria-label={t("users.title")}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("users.name")}</th>
                <th scope="col">{t("users.role")}</th>
                <th scope="col">{t("users.state")}</th>
                <th scope="col">{t("users.signed_in")}</th>
                <td />
              </tr>
            </thead>
            <tbody>
              {users.map((user) => (
                <tr key={user.name} data-off={user.disabled}>
                  <th scope="row">{user.name}</th>
                  <td>
                    {user.is_local ? (
                      <RoleChoice label={t("users.role_of", { name: user.name })} role={user.role} onRole={(role) => void change(user, { role })} />
                    ) : (
                      `${t(`access.role.${user.role}`)} · ${t("users.elsewhere")}`
                    )}
                  </td>
                  <td>{t(user.disabled ? "users.state.off" : "users.state.on")}</td>
                  <td data-label={t("users.signed_in")}>{user.signed_in_at_ms === null ? t("users.never") : format.since(user.signed_in_at_ms)}</td>
                  <td>
                    <div className={styles["tools"]}>
                      {user.is_local && <NewPassword user={user} onPassword={(password) => change(user, { password })} />}
                      <button type="button" className={ButtonLook} onClick={() => void change(user, { disabled: !user.disabled })}
                        aria-label={t(user.disabled ? "users.enable_of" : "users.disable_of", { name: user.name })}>
                        {t(user.disabled ? "users.enable" : "users.disable")}
                      </button>
                    </div>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <AddUser onAdd={(user) => work(() => addUser(user), ({ name }) => t("users.added", { name }))} />
    </div>
  );
}

function RoleChoice({ id, label, role, onRole }: { id?: string; label?: string; role: Role; onRole: (role: Role) => void }) {
  const { t } = useI18n();
  return (
    <select id={id} aria-label={label} value={role} onChange={(event) => onRole(event.target.value as Role)}>
      {ROLES.map((one) => (
        <option key={one} value={one}>
          {t(`access.role.${one}`)}
        </option>
      ))}
    </select>
  );
}

function NewPassword({ user, onPassword }: { user: User; onPassword: (password: string) => Promise<boolean> }) {
  const { t } = useI18n();
  const [typed, setTyped] = useState<string | null>(null);
  const label = t("users.set_password_of", { name: user.name });
  if (typed === null) {
    return (
      <button type="button" className={ButtonLook} aria-label={label} onClick={() => setTyped("")}>
        {t("users.set_password")}
      </button>
    );
  }
  return (
    <form className={styles["tools"]} onSubmit={(event) => {
      event.preventDefault();
      void onPassword(typed).then((done) => done && setTyped(null));
    }}>
      <input type="password" aria-label={label} value={typed} autoComplete="new-password" required maxLength={1_024}
        ref={(field) => {
          if (typed === "") field?.focus();
        }}
        onChange={(event) => setTyped(event.target.value)} />
      <button type="submit" className={StrongButtonLook}>
        {t("users.set")}
      </button>
      <button type="button" className={ButtonLook} onClick={() => setTyped(null)}>
        {t("users.cancel")}
      </button>
    </form>
  );
}

const NOBODY = { name: "", role: "operator" as Role, password: "" };

function AddUser({ onAdd }: { onAdd: (user: { name: string; role: Role; password: string }) => Promise<boolean> }) {
  const { t } = useI18n();
  const [typed, setTyped] = useState(NOBODY);
  const id = useId();
  const send = async (event: FormEvent) => {
    event.preventDefault();
    if (await onAdd({ ...typed, name: typed.name.trim() })) setTyped(NOBODY);
  };
  return (
    <Panel title={t("users.add")}>
      <form className={styles["add"]} onSubmit={(event) => void send(event)}>
        <div>
          <label htmlFor={`${id}-name`}>{t("users.name")}</label>
          <input id={`${id}-name`} value={typed.name} maxLength={64} required autoComplete="off" spellCheck={false}
            onChange={(event) => setTyped({ ...typed, name: event.target.value })} />
        </div>
        <div>
          <label htmlFor={`${id}-role`}>{t("users.role")}</label>
          <RoleChoice id={`${id}-role`} role={typed.role} onRole={(role) => setTyped({ ...typed, role })} />
        </div>
        <div>
          <label htmlFor={`${id}-password`}>{t("users.password")}</label>
          <input id={`${id}-password`} type="password" value={typed.password} maxLength={1_024} required autoComplete="new-password"
            onChange={(event) => setTyped({ ...typed, password: event.target.value })} />
        </div>
        <button type="submit" className={StrongButtonLook}>
          {t("users.add.go")}
        </button>
      </form>
      <p className={styles["text"]}>{t("password.rule")}</p>
    </Panel>
  );
}
