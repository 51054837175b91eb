import { useId } from "react";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { CLASS_KEYS } from "../../review/classes";
import styles from "./CorrectionPanel.module.css";
import { stayPut } from "./DrawTools";
import type { Correction } from "./useCorrection";

const LONGEST_CLASS = 64;
const LONGEST_NOTE = 2_000;

/** What the defect is and where, as far as the person wants to say; all of it may stay empty. */
export function CorrectionPanel({ correction }: { correction: Correction }) {
  const { t } = useI18n();
  const { draft, classes } = correction;
  const id = useId();
  if (!draft) return null;
  return (
    <Panel title={t("review.correct.title")} tone="fail">
      <p className={styles["hint"]}>{t("review.correct.hint")}</p>
      <div className={styles["field"]}>
        <label htmlFor={`${id}-class`}>{t("review.correct.class")}</label>
        <input id={`${id}-class`} value={draft.defectClass} maxLength={LONGEST_CLASS} spellCheck={false} autoComplete="off"
          onChange={(event) => correction.change({ defectClass: event.target.value })} />
        {classes.length > 0 && (
          <div className={styles["chips"]} role="group" aria-label={t("review.correct.classes")}>
            {classes.map((name, number) => (
              <button type="button" key={name} aria-pressed={draft.defectClass === name} aria-keyshortcuts={CLASS_KEYS[number]}
                title={name.replaceAll("_", " ")} onMouseDown={stayPut} onClick={() => correction.name(name)}>
                <kbd aria-hidden="true">{CLASS_KEYS[number]}</kbd>
                <span>{name.replaceAll("_", " ")}</span>
              </button>
            ))}
          </div>
        )}
      </div>
      <div className={styles["field"]}>
        <label htmlFor={`${id}-note`}>{t("review.correct.note")}</label>
        <textarea id={`${id}-note`} rows={2} value={draft.note} maxLength={LONGEST_NOTE}
          onChange={(event) => correction.change({ note: event.target.value })} />
      </div>
      <fieldset className={styles["kind"]}>
        <legend>{t("review.correct.kind")}</legend>
        {([false, true] as const).map((asArea) => (
          <label key={String(asArea)}>
            <input type="radio" name={`${id}-kind`} checked={draft.asArea === asArea} onChange={() => correction.change({ asArea })} />
            {t(asArea ? "review.correct.area" : "review.correct.mask")}
          </label>
        ))}
      </fieldset>
    </Panel>
  );
}
