import { useEffect, useId, useState, type FormEvent } from "react";
import { changePassword } from "../../api/access";
import { ApiError } from "../../api/client";
import { useAccount, useSignedInName } from "../../access/hooks";
import { StrongButtonLook } from "../../components/Button";
import { useI18n } from "../../i18n";
import styles from "./PasswordPage.module.css";

const SHORTEST = 12;

type Field = "old" | "new" | "again";

const FIELDS: Field[] = ["old", "new", "again"];
const EMPTY: Record<Field, string> = { old: "", new: "", again: "" };

/** Where people change their own password. */
export function PasswordPage() {
  const { t } = useI18n();
  const account = useAccount();
  const name = useSignedInName();
  const [typed, setTyped] = useState(EMPTY);
  const [said, setSaid] = useState<{ text: string; done: boolean } | null>(null);
  const [busy, setBusy] = useState(false);
  const id = useId();
  useEffect(() => {
    document.title = `${t("password.title")} · ${t("app.name")}`;
  }, [t]);
  const send = async (event: FormEvent) => {
    event.preventDefault();
    if (typed.new.length < SHORTEST) return setSaid({ text: t("password.short"), done: false });
    if (typed.new !== typed.again) return setSaid({ text: t("password.differ"), done: false });
    setBusy(true);
    setSaid(null);
    try {
      account.take(await changePassword(typed.old, typed.new));
      setTyped(EMPTY);
      setSaid({ text: t("password.done"), done: true });
    } catch (error) {
      const problem = error instanceof ApiError ? error.problem : { reason: "error", message: String(error) };
      const text =
        problem.reason === "forbidden"
          ? t("password.wrong")
          : problem.reason === "too_many_attempts"
            ? t("password.too_many_attempts")
            : t("password.failed", { reason: problem.message });
      setSaid({ text, done: false });
    } finally {
      setBusy(false);
    }
  };
  return (
    <form className={styles["form"]} onSubmit={(event) => void send(event)}>
      <h1>{t("password.title")}</h1>
      {/* For what keeps passwords in the browser. */}
      <input type="text" autoComplete="username" value={name ?? ""} readOnly hidden />
      {FIELDS.map((field) => (
        <div key={field}>
          <label htmlFor={`${id}-${field}`}>{t(`password.${field}`)}</label>
          <input id={`${id}-${field}`} type="password" value={typed[field]} required maxLength={1_024}
            autoComplete={field === "old" ? "current-password" : "new-password"}
            onChange={(event) => setTyped({ ...typed, [field]: event.target.value })} />
        </div>
      ))}
      <p className={styles["rule"]}>{t("password.rule")}</p>
      {said && (
        <p role={said.done ? "status" : "alert"} className={styles["said"]} data-done={said.done}>
          {said.text}
        </p>
      )}
      <button type="submit" className={StrongButtonLook} disabled={busy}>
        {t("password.go")}
      </button>
    </form>
  );
}
