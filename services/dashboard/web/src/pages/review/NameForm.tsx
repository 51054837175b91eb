import { useEffect, useId, useRef, useState } from "react";
import { StrongButtonLook } from "../../components/Button";
import { useI18n } from "../../i18n";
import styles from "./NameForm.module.css";

const LONGEST = 64;

/** Asks once who reviews: every answer carries a name. */
export function NameForm({ name, onName }: { name: string; onName: (name: string) => void }) {
  const { t } = useI18n();
  const [typed, setTyped] = useState(name);
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => field.current?.focus(), []);
  const clean = typed.trim();
  return (
    <form className={styles["form"]} onSubmit={(event) => {
      event.preventDefault();
      if (clean !== "") onName(clean);
    }}>
      <h1>{t("review.name.title")}</h1>
      <label htmlFor={id}>{t("review.name.label")}</label>
      <div>
        <input id={id} ref={field} value={typed} maxLength={LONGEST} autoComplete="name" spellCheck={false}
          onChange={(event) => setTyped(event.target.value)} />
        <button type="submit" className={StrongButtonLook} disabled={clean === ""}>
          {t("review.name.go")}
        </button>
      </div>
      <p>{t("review.name.text")}</p>
    </form>
  );
}
