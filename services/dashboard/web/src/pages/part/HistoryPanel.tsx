import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import styles from "./FactsPanel.module.css";

/** What another model version, or the same frame judged again, had said. */
export function HistoryPanel({ part }: { part: Part }) {
  const { t, format } = useI18n();
  if (part.earlier.length === 0) return null;
  return (
    <Panel title={t("panel.history")}>
      <ul className={styles["history"]}>
        {part.earlier.map((one) => (
          <li key={`${one.alias} ${one.model_version}`}>
            <VerdictMark verdict={one.verdict} size={18} />
            {t(`verdict.${one.verdict}`)}
            <span>{one.score === null ? t("score.none") : format.score(one.score)}</span>
            <span>{t("model.version", { alias: one.alias, version: one.model_version })}</span>
            <span>{format.clock(one.decided_at_ms)}</span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
