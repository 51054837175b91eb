import { useCallback, useEffect, useState } from "react";
import { fetchAudit, type AuditEntry } from "../../api/access";
import { ApiError } from "../../api/client";
import { ButtonLook } from "../../components/Button";
import { Message } from "../../components/Message";
import { hasMessage, useI18n, type Translate } from "../../i18n";
import styles from "./UsersPage.module.css";

interface State {
  entries: AuditEntry[];
  /** Where older ones begin; null: there are none. */
  next: number | null;
}

/** Where an admin reads who did what. */
export function AuditPage() {
  const { t, format } = useI18n();
  const [state, setState] = useState<State | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    document.title = `${t("audit.title")} · ${t("app.name")}`;
  }, [t]);
  const load = useCallback((after: number | null, signal: AbortSignal) => {
    fetchAudit(after, signal).then(
      (page) => {
        setState((now) => ({ entries: [...(after === null || now === null ? [] : now.entries), ...page.entries], next: page.next }));
        setProblem(null);
      },
      (error: unknown) => !signal.aborted && setProblem(error instanceof ApiError ? error.problem.message : String(error)),
    );
  }, []);
  useEffect(() => {
    const abort = new AbortController();
    load(null, abort.signal);
    return () => abort.abort();
  }, [load]);
  return (
    <div className={styles["page"]}>
      <h1>{t("audit.title")}</h1>
      <p className={styles["text"]}>{t("audit.text")}</p>
      {problem !== null && (
        <p role="alert" className={styles["said"]} data-done="false">
          {t("audit.failed", { reason: problem })}
        </p>
      )}
      {state === null ? (
        problem === null && <Message title={t("users.loading")} />
      ) : state.entries.length === 0 ? (
        <p>{t("audit.none")}</p>
      ) : (
        <div className={styles["scroll"]} role="region" aria-label={t("audit.title")}>
          <table>
            <thead>
              <tr>
                {(["at", "who", "what", "target", "address", "outcome"] as const).map((name) => (
                  <th key={name} scope="col">
                    {t(`audit.${name}`)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {state.entries.map((entry) => (
                <tr key={entry.entry_id}>
                  <td>{format.stamp(entry.at_ms)}</td>
                  <td>
                    {entry.who || t("audit.nobody")}
                    {entry.role && ` · ${worded("access.role", entry.role, t)}`}
                  </td>
                  <td>{worded("audit.action", entry.action, t)}</td>
                  <td>{entry.target}</td>
                  <td>{entry.address}</td>
                  <td>{worded("audit.outcome", entry.outcome, t)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {state !== null && state.next !== null && (
        <div>
          <button type="button" className={ButtonLook} onClick={() => load(state.next, new AbortController().signal)}>
            {t("audit.more")}
          </button>
        </div>
      )}
    </div>
  );
}

function worded(kind: string, value: string, t: Translate): string {
  const key = `${kind}.${value}`;
  return hasMessage(key) ? t(key) : value;
}
