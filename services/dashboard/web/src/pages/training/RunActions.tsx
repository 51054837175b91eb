import { useId, useState } from "react";
import { useMay } from "../../access/hooks";
import { cancelRun, promote, resumeRun, rollBack, type Run, type TrainedAlias } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import { canCancel, canPromote, canResume, canRollBack, needsReason } from "../../training/run";
import styles from "./RunActions.module.css";
import { SureButton } from "./SureButton";
import type { Action } from "./useAction";

interface RunActionsProps {
  run: Run;
  alias: TrainedAlias | null;
  action: Action;
  /** A reason is being written, so what needs it is not offered again. */
  explaining: boolean;
  onExplain: () => void;
}

/** What may be done with a run as it is now. */
export function RunActions({ run, alias, action, explaining, onExplain }: RunActionsProps) {
  const { t } = useI18n();
  const may = useMay("train");
  if (!may) return null;
  const promoting = canPromote(run, alias);
  const { sending } = action;
  return (
    <div className={styles["actions"]}>
      {promoting && !needsReason(run) && (
        <SureButton icon="check" text={t("training.do.promote", { version: run.candidate_version })}
          sure={t("training.do.promote.sure")} disabled={sending} onSure={() => action.run((actor) => letDecide(run, actor, ""))} />
      )}
      {promoting && needsReason(run) && !explaining && (
        <button type="button" className={ButtonLook} disabled={sending} onClick={onExplain}>
          {t("training.do.promote.despite")}
        </button>
      )}
      {canRollBack(run, alias) && (
        <SureButton icon="undo" text={t("training.do.roll_back", { version: alias?.previous_version ?? 0 })}
          sure={t("training.do.roll_back.sure")} disabled={sending}
          onSure={() => action.run((actor) => rollBack(run.alias, actor))} />
      )}
      {canResume(run) && (
        <button type="button" className={ButtonLook} disabled={sending}
          onClick={() => action.run((actor) => resumeRun(run.run_id, actor))}>
          <Icon name="play" size={18} />
          {t("training.do.resume")}
        </button>
      )}
      {canCancel(run) && (
        <SureButton icon="stop" text={t("training.do.cancel")} sure={t("training.do.cancel.sure")} disabled={sending}
          onSure={() => action.run((actor) => cancelRun(run.run_id, actor))} />
      )}
      {sending && <span className={styles["sending"]} role="status">{t("training.do.sending")}</span>}
    </div>
  );
}

/** Let the run's version decide from now on. */
export function letDecide(run: Run, actor: string, note: string): Promise<unknown> {
  return promote(run.alias, { version: run.candidate_version, actor, note, despite_gates: needsReason(run) });
}

interface DespiteProps {
  version: number;
  disabled: boolean;
  onBack: () => void;
  onSure: (note: string) => void;
}

/** A refused version goes live only with a reason. */
export function Despite({ version, disabled, onBack, onSure }: DespiteProps) {
  const { t } = useI18n();
  const id = useId();
  const [note, setNote] = useState("");
  const clean = note.trim();
  return (
    <form className={styles["despite"]} onSubmit={(event) => {
      event.preventDefault();
      if (clean !== "") onSure(clean);
    }}>
      <p>{t("training.do.promote.despite.text")}</p>
      <label htmlFor={id}>{t("training.do.promote.why")}</label>
      <textarea id={id} rows={2} maxLength={2_000} value={note} onChange={(event) => setNote(event.target.value)} />
      <div>
        <button type="submit" className={`${ButtonLook} ${styles["let"]}`} disabled={clean === "" || disabled}>
          {t("training.do.promote.despite.sure", { version })}
        </button>
        <button type="button" className={ButtonLook} onClick={onBack}>
          {t("training.do.promote.back")}
        </button>
      </div>
    </form>
  );
}
