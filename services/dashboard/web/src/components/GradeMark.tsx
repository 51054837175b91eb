import type { Grade } from "../api/types";
import { useI18n } from "../i18n";
import styles from "./GradeMark.module.css";

/** How far a map may be trusted, as a letter; a dash where it was not graded. Never in the verdicts' colours. */
export function GradeMark({ grade, size = "small" }: { grade: Grade | null; size?: "small" | "large" }) {
  const { t } = useI18n();
  const label = grade === null ? t("grade.none") : t("grade.label", { grade });
  return (
    <span className={styles["mark"]} data-grade={grade ?? "none"} data-size={size} role="img" aria-label={label}>
      {grade ?? "–"}
    </span>
  );
}
