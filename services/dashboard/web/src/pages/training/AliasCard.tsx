import { useId, useState } from "react";
import { useMay } from "../../access/hooks";
import { rollBack, startRun, type Loss, type Recipe, type RunPage, type TrainedAlias } from "../../api/training";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import { hasEnded } from "../../training/run";
import styles from "./AliasCard.module.css";
import { SureButton } from "./SureButton";
import { useAction } from "./useAction";

interface AliasCardProps {
  alias: TrainedAlias;
  /** Null where there is no trainer, or while it has not answered yet. */
  page: RunPage | null;
  onName: () => void;
  onChanged: () => void;
}

/** One alias: what decides, how many answers came since the last run, and the way to a new one. */
export function AliasCard({ alias, page, onName, onChanged }: AliasCardProps) {
  const { t, format } = useI18n();
  const id = useId();
  const may = useMay("train");
  const action = useAction(onName, onChanged);
  const [recipe, setRecipe] = useState<Recipe | "">("");
  const [loss, setLoss] = useState<Loss | "">("");
  const [note, setNote] = useState("");
  const busy = page?.runs.some((run) => run.alias === alias.alias && !hasEnded(run)) ?? false;
  const live = alias.live_version;
  return (
    <section className={styles["card"]} aria-labelledby={id} data-testid={`alias-${alias.alias}`}>
      <div className={styles["live"]}>
        <h2 id={id}>{alias.alias}</h2>
        <strong>{live ? t("models.live", { version: live }) : t("models.live.none")}</strong>
        {live > 0 && <span>{t("models.history.by", { actor: alias.actor || "–", time: format.since(alias.at_ms) })}</span>}
      </div>
      {page && <Answers count={page.new_reviews[alias.alias] ?? 0} wanted={page.reviews_wanted} />}
      {page && may && (
        <div className={styles["actions"]}>
          <button type="button" className={busy ? ButtonLook : StrongButtonLook} disabled={busy || action.sending}
            onClick={() => action.run((actor) => startRun({ alias: alias.alias, actor, note, recipe, loss }))}>
            <Icon name="play" size={18} />
            {t(action.sending ? "training.start.sending" : "training.start")}
          </button>
          {alias.previous_version > 0 && (
            <SureButton icon="undo" text={t("training.do.roll_back", { version: alias.previous_version })}
              sure={t("training.do.roll_back.sure")} disabled={action.sending}
              onSure={() => action.run((actor) => rollBack(alias.alias, actor))} />
          )}
        </div>
      )}
      {page && !may && <p className={styles["quiet"]}>{t("training.start.operators")}</p>}
      {action.problem !== null && (
        <p className={styles["problem"]} role="alert">{t("training.do.failed", { reason: action.problem })}</p>
      )}
      {page && may && !busy && (
        <details className={styles["how"]}>
          <summary>{t("training.how")}</summary>
          <div>
            <Choice label={t("training.how.recipe")} chosen={recipe} onChoose={setRecipe}
              choices={{ head: t("training.recipe.head"), finetune: t("training.recipe.finetune") }} />
            <Choice label={t("training.how.loss")} chosen={loss} onChoose={setLoss}
              choices={{ ce: t("training.loss.ce"), ceod: t("training.loss.ceod") }} />
            <label>
              {t("training.how.note")}
              <input value={note} maxLength={2_000} onChange={(event) => setNote(event.target.value)} />
            </label>
          </div>
        </details>
      )}
      {page && may && busy && <p className={styles["quiet"]}>{t("training.start.busy")}</p>}
    </section>
  );
}

function Answers({ count, wanted }: { count: number; wanted: number }) {
  const { t, format } = useI18n();
  if (wanted === 0) {
    return (
      <p className={styles["answers"]}>
        {t(count === 1 ? "training.answers.one" : "training.answers", { count: format.count(count) })}
        <span>{t("training.answers.by_hand")}</span>
      </p>
    );
  }
  return (
    <label className={styles["answers"]}>
      {t("training.answers.wanted", { count: format.count(count), wanted: format.count(wanted) })}
      <progress value={Math.min(count, wanted)} max={wanted} />
    </label>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  chosen: T | "";
  choices: Record<T, string>;
  onChoose: (one: T | "") => void;
}

function Choice<T extends string>({ label, chosen, choices, onChoose }: ChoiceProps<T>) {
  const { t } = useI18n();
  return (
    <label>
      {label}
      <select value={chosen} onChange={(event) => onChoose(event.target.value as T | "")}>
        <option value="">{t("training.how.default")}</option>
        {(Object.keys(choices) as T[]).map((one) => (
          <option key={one} value={one}>
            {choices[one]}
          </option>
        ))}
      </select>
    </label>
  );
}
