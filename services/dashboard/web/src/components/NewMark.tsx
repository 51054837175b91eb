import { useI18n } from "../i18n";
import styles from "./NewMark.module.css";

/** A dot: something came since the person last looked; a new model, unless it says otherwise. */
export function NewMark({ label }: { label?: string }) {
  const { t } = useI18n();
  const text = label ?? t("nav.models.new");
  return <span className={styles["mark"]} role="img" aria-label={text} title={text} />;
}
