import type { Run } from "../../api/training";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import { stepsOf, type Step } from "../../training/run";
import { outcomeText } from "../../training/words";
import styles from "./StageLine.module.css";

/** The stages of a run as a line: what is behind it, where it is, and what lies ahead. */
export function StageLine({ run }: { run: Run }) {
  const { t } = useI18n();
  return (
    <ol className={styles["line"]} aria-label={t("training.stages")}>
      {stepsOf(run).map((step) => (
        <li key={step.stage} data-state={step.state} aria-current={step.state === "now" ? "step" : undefined}>
          <span className={styles["mark"]}>
            <Mark step={step} share={run.share ?? 0} />
          </span>
          <span className={styles["name"]}>
            {step.stage === "ended" && run.outcome !== null ? outcomeText(run, t) : t(`training.stage.${step.stage}`)}
          </span>
          <span className={isTold(step) ? styles["state"] : "visually-hidden"}>
            {t(`training.step.${step.state}`)}
          </span>
        </li>
      ))}
    </ol>
  );
}

/** What the mark alone does not say. */
function isTold({ stage, state }: Step): boolean {
  return stage !== "ended" && (state === "passed_over" || state === "stopped");
}

const AROUND = 2 * Math.PI * 10;

function Mark({ step, share }: { step: Step; share: number }) {
  if (step.state === "done") return <Icon name="check" size={16} />;
  if (step.state === "stopped") return <Icon name="close" size={16} />;
  if (step.state === "passed_over") return <Icon name="minus" size={14} />;
  if (step.state === "ahead") return null;
  return (
    <svg width="28" height="28" viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
      <circle cx="12" cy="12" r="10" stroke="var(--edge)" strokeWidth="3" />
      {share > 0 && (
        <circle cx="12" cy="12" r="10" stroke="var(--accent)" strokeWidth="3" strokeLinecap="round" transform="rotate(-90 12 12)"
          strokeDasharray={`${(AROUND * share).toFixed(1)} ${AROUND.toFixed(1)}`} />
      )}
      <circle cx="12" cy="12" r="4" fill="var(--accent)" />
    </svg>
  );
}
