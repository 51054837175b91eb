import { useId } from "react";
import { Link } from "react-router";
import type { Run } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import { outcomeText, reasonText } from "../../training/words";
import styles from "./RunList.module.css";
import { titleOf } from "./titles";

/** Earlier runs, the newest first; each leads to its own page. */
export function RunList({ runs, onMore }: { runs: Run[]; onMore: (() => void) | null }) {
  const { t, format } = useI18n();
  const id = useId();
  return (
    <section className={styles["list"]} aria-labelledby={id}>
      <h2 id={id}>{t("training.earlier")}</h2>
      {runs.length === 0 && <p className={styles["quiet"]}>{t("training.earlier.none")}</p>}
      <ol>
        {runs.map((run) => (
          <li key={run.run_id}>
            <Link to={`/training/${run.run_id}`} data-testid={`run-${run.run_id}`}>
              <span className={styles["outcome"]} data-outcome={run.outcome}>{outcomeText(run, t)}</span>
              <strong>{titleOf(run, t)}</strong>
              <span>{format.since(run.ended_at_ms ?? run.requested_at_ms)}</span>
              <span className={styles["reason"]}>{reasonText(run, t)}</span>
              <Icon name="right" size={18} />
            </Link>
          </li>
        ))}
      </ol>
      {onMore && (
        <button type="button" className={ButtonLook} onClick={onMore}>
          {t("training.more")}
        </button>
      )}
    </section>
  );
}
