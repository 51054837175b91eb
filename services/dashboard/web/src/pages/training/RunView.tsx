import { useState } from "react";
import type { Run, TrainedAlias } from "../../api/training";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { canPromote, hasEnded, isReplaced, needsReason } from "../../training/run";
import { detailText, outcomeText, phraseText, reasonText } from "../../training/words";
import { AnsweredPanel } from "./AnsweredPanel";
import { ConfusionPanel } from "./ConfusionPanel";
import { FlipsTable } from "./FlipsTable";
import { GateTable } from "./GateTable";
import { LossChart } from "./LossChart";
import { Despite, letDecide, RunActions } from "./RunActions";
import styles from "./RunView.module.css";
import { ShadowPanel, SnapshotPanel, WatchPanel } from "./FiguresPanels";
import { StageLine } from "./StageLine";
import { begunBy, endOf, titleOf } from "./titles";
import { useAction } from "./useAction";

interface RunViewProps {
  run: Run;
  /** What the run's alias points to; null while that is not known. */
  alias: TrainedAlias | null;
  onName: () => void;
  onChanged: () => void;
}

/** One run: how far it is, what it learnt from, what its candidate proved, and what may be done with it. */
export function RunView({ run, alias, onName, onChanged }: RunViewProps) {
  const { t } = useI18n();
  const { report } = run;
  return (
    <article className={styles["run"]} data-testid="run" data-stage={run.stage}>
      <Head run={run} alias={alias} onName={onName} onChanged={onChanged} />
      <div className={styles["columns"]} data-alone={report === null}>
        {report && (
          <div className={styles["main"]}>
            <AnsweredPanel report={report} />
            <Panel title={t("training.gates")}>
              <GateTable report={report} />
            </Panel>
            <ConfusionPanel report={report} />
            <Panel title={t("training.flips")}>
              <div className={styles["stack"]}>
                {run.shadow && <FlipsTable title={t("training.flips.shadow")} flips={run.shadow.flips} />}
                <FlipsTable title={t("training.flips.holdout")} flips={report.flips} />
              </div>
            </Panel>
          </div>
        )}
        <div className={styles["side"]}>
          {run.watch && <WatchPanel watch={run.watch} />}
          {run.shadow && <ShadowPanel shadow={run.shadow} />}
          <Panel title={t("training.loss")}>
            <LossChart epochs={run.epochs} />
          </Panel>
          <SnapshotPanel snapshot={run.snapshot} />
          {report === null && (
            <Panel title={t("training.gates")}>
              <p className={styles["quiet"]}>{t(hasEnded(run) ? "training.gates.never" : "training.gates.wait")}</p>
            </Panel>
          )}
        </div>
      </div>
    </article>
  );
}

function Head({ run, alias, onName, onChanged }: RunViewProps) {
  const { t, format } = useI18n();
  const ended = hasEnded(run);
  const reason = reasonText(run, t);
  const detail = detailText(run, t);
  const action = useAction(onName, onChanged);
  const [explaining, setExplaining] = useState(false);
  const open = explaining && canPromote(run, alias) && needsReason(run);
  return (
    <header className={styles["head"]} data-outcome={run.outcome}>
      <p className={styles["title"]}>{titleOf(run, t)}</p>
      <div className={styles["now"]}>
        <h2 data-testid="stage">{outcomeText(run, t)}</h2>
        {!ended && <span>{t("training.since", { time: format.since(run.stage_since_ms) })}</span>}
        <RunActions run={run} alias={alias} action={action} explaining={open} onExplain={() => setExplaining(true)} />
      </div>
      <p>{ended ? endOf(run, t) : t(`training.does.${run.stage}`)}</p>
      {alias !== null && isReplaced(run, alias) && (
        <p data-testid="replaced">
          {t("training.replaced", { version: alias.live_version, time: format.since(alias.at_ms), actor: alias.actor })}
        </p>
      )}
      {reason !== "" && <p className={styles["reason"]} data-testid="reason">{reason}</p>}
      {detail !== "" && <p className={styles["detail"]}>{detail}</p>}
      {open && (
        <Despite version={run.candidate_version} disabled={action.sending} onBack={() => setExplaining(false)}
          onSure={(note) => action.run((actor) => letDecide(run, actor, note))} />
      )}
      {action.problem !== null && (
        <p className={styles["problem"]} role="alert">{t("training.do.failed", { reason: action.problem })}</p>
      )}
      {!ended && (
        <div className={styles["progress"]}>
          {run.share !== null && run.share > 0 && (
            <label>
              <span className="visually-hidden">{t(`training.stage.${run.stage}`)}</span>
              <progress value={run.share} max={1} />
              <span>{t("training.share", { share: format.percentWhole(run.share) })}</span>
            </label>
          )}
          {run.doing !== "" && <p data-testid="doing">{phraseText(run.doing, t)}</p>}
        </div>
      )}
      <StageLine run={run} />
      <p className={styles["facts"]}>
        {begunBy(run, format.since(run.requested_at_ms), t)}{" "}
        {run.ended_at_ms !== null && `${t("training.ended", { time: format.since(run.ended_at_ms) })} `}
        {t("training.recipe", { recipe: t(`training.recipe.${run.recipe}`), loss: t(`training.loss.${run.loss}`), seed: run.seed })}{" "}
        {!ended && `${t(run.promotes_itself ? "training.itself.yes" : "training.itself.no")} `}
        {run.attempts > 1 && `${t("training.attempts", { count: run.attempts })} `}
        {run.authors.length > 0 && t("training.authors", { names: run.authors.join(", ") })}
      </p>
      {run.note !== "" && <q>{run.note}</q>}
    </header>
  );
}
