import type { Verdict } from "../api/types";
import { useI18n } from "../i18n";
import styles from "./VerdictBadge.module.css";
import { VerdictMark } from "./VerdictMark";

export function VerdictBadge({ verdict, size = "normal" }: { verdict: Verdict; size?: "normal" | "large" }) {
  const { t } = useI18n();
  return (
    <span className={styles["badge"]} data-verdict={verdict} data-size={size}>
      <VerdictMark verdict={verdict} size={size === "large" ? 28 : 20} onFill />
      {t(`verdict.${verdict}`)}
    </span>
  );
}
