import { useId } from "react";
import type { QueuedCase } from "../../api/types";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { useStation } from "../../review/hooks";
import styles from "./CorrectionPanel.module.css";
import { stayPut } from "./DrawTools";
import type { Correction } from "./useCorrection";

const LONGEST_CLASS = 64;
const LONGEST_NOTE = 2_000;
const SUGGESTIONS = 6;

/** What the defect is and where, as far as the person wants to say; all of it may stay empty. */
export function CorrectionPanel({ one, correction }: { one: QueuedCase; correction: Correction }) {
  const { t } = useI18n();
  const { draft } = correction;
  const suggestions = useSuggestions(one);
  const id = useId();
  if (!draft) return null;
  return (
    <Panel title={t("review.correct.title")} tone="fail">
      <p className={styles["hint"]}>{t("review.correct.hint")}</p>
      <div className={styles["field"]}>
        <label htmlFor={`${id}-class`}>{t("review.correct.class")}</label>
        <input id={`${id}-class`} value={draft.defectClass} maxLength={LONGEST_CLASS} spellCheck={false} autoComplete="off"
          onChange={(event) => correction.change({ defectClass: event.target.value })} />
        {suggestions.length > 0 && (
          <div className={styles["chips"]}>
            {suggestions.map((name) => (
              <button type="button" key={name} aria-pressed={draft.defectClass === name} onMouseDown={stayPut}
                onClick={() => correction.change({ defectClass: draft.defectClass === name ? "" : name })}>
                {name.replaceAll("_", " ")}
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

/** The model's own word first, then what was seen in this sitting. */
function useSuggestions(one: QueuedCase): string[] {
  const { trail, turns } = useStation();
  const names = [
    one.inspection.defect_class,
    ...turns.map((turn) => turn.draft?.defectClass ?? "").reverse(),
    ...trail.cases.map((other) => other.inspection.defect_class),
  ];
  return [...new Set(names.filter((name) => name !== ""))].slice(0, SUGGESTIONS);
}
