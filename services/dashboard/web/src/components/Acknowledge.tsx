import { useEffect, useId, useRef, useState } from "react";
import { useMay } from "../access/hooks";
import { acknowledgeAlarm, type Alarm } from "../api/lines";
import { useI18n } from "../i18n";
import { useNamedAction } from "../lines/useNamedAction";
import { alarmText } from "../lines/words";
import styles from "./Acknowledge.module.css";
import { ButtonLook } from "./Button";
import { Icon } from "./Icon";

const LONGEST = 64;

/** Says in a person's name that they have seen an alarm; asks for the name where it is not known. */
export function Acknowledge({ lineId, alarm, note = "" }: { lineId: string; alarm: Alarm; note?: string }) {
  const { t } = useI18n();
  const may = useMay("acknowledge");
  const action = useNamedAction((person) => acknowledgeAlarm(lineId, alarm.alarm_id, person, note.trim()));
  if (!may) return null;
  return (
    <div className={styles["acknowledge"]}>
      {action.problem !== null && <span role="alert">{t("alarm.failed", { why: action.problem })}</span>}
      {action.naming ? (
        <NameInPlace label={t("alarm.acknowledge")} onName={action.name} onCancel={action.cancel} />
      ) : (
        <button type="button" className={ButtonLook} aria-label={t("alarm.acknowledge.label", { text: alarmText(alarm.text, t) })}
          disabled={action.sending} onClick={action.press}>
          <Icon name="check" size={18} />
          {t(action.sending ? "alarm.sending" : "alarm.acknowledge")}
        </button>
      )}
    </div>
  );
}

interface NameInPlaceProps {
  /** What the button that sends says. */
  label: string;
  onName: (name: string) => void;
  onCancel: () => void;
}

/** Asks for a name where it is needed, without leaving what is on screen. */
export function NameInPlace({ label, onName, onCancel }: NameInPlaceProps) {
  const { t } = useI18n();
  const [typed, setTyped] = useState("");
  const field = useRef<HTMLInputElement>(null);
  const form = useRef<HTMLFormElement>(null);
  const id = useId();
  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !form.current?.contains(document.activeElement)) return;
      // To the page below, Escape may mean to leave.
      event.stopPropagation();
      onCancel();
    };
    addEventListener("keydown", onKey, { capture: true });
    return () => removeEventListener("keydown", onKey, { capture: true });
  });
  const clean = typed.trim();
  return (
    <form ref={form} className={styles["name"]} onSubmit={(event) => {
      event.preventDefault();
      if (clean !== "") onName(clean);
    }}>
      <label htmlFor={id}>{t("alarm.name")}</label>
      <input id={id} ref={field} value={typed} maxLength={LONGEST} autoComplete="name" spellCheck={false}
        aria-describedby={`${id}-text`} onChange={(event) => setTyped(event.target.value)} />
      <span id={`${id}-text`} className="visually-hidden">{t("alarm.name.text")}</span>
      <button type="submit" className={ButtonLook} disabled={clean === ""}>
        {label}
      </button>
      <button type="button" className={ButtonLook} onClick={onCancel}>
        {t("alarm.cancel")}
      </button>
    </form>
  );
}
