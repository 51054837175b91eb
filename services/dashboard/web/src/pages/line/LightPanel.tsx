import type { Light, LineNow } from "../../api/lines";
import { LampMark, StackLight } from "../../components/StackLight";
import { useI18n } from "../../i18n";
import { causeText } from "../../lines/words";
import styles from "./LightPanel.module.css";

/** The line's light, large, and in plain words why it is not green. */
export function LightPanel({ line, light }: { line: LineNow; light: Light | null }) {
  const { t } = useI18n();
  return (
    <section className={styles["panel"]} aria-label={t("light.label", { line: line.line_id, light: t(`light.${light ?? "none"}`) })}>
      <StackLight lineId={line.line_id} light={light} />
      <div className={styles["why"]}>
        <p className={styles["word"]}>{t(`light.${light ?? "none"}`)}</p>
        <p>{t(`light.${light ?? "none"}.means`)}</p>
        {line.causes.length > 0 && (
          <>
            <h2>{t("line.why")}</h2>
            <ul data-testid="causes">
              {line.causes.map((cause) => (
                <li key={`${cause.token} ${cause.about}`} data-light={cause.light ?? "none"}>
                  <LampMark light={cause.light} size={18} />
                  <span>
                    <span className="visually-hidden">{t(`light.${cause.light ?? "none"}`)}: </span>
                    {causeText(cause, line.alarms, t)}
                  </span>
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
    </section>
  );
}
