import { useId } from "react";
import type { Alias, AliasState } from "../../api/models";
import { useI18n, type Translate } from "../../i18n";
import { addedIn } from "../../models/versions";
import styles from "./History.module.css";

const SHOWN = 12;

/** The changes of an alias that the broker still has, the newest first. */
export function History({ alias }: { alias: Alias }) {
  const { t, format } = useI18n();
  const id = useId();
  return (
    <section className={styles["history"]} aria-labelledby={id} data-testid="history">
      <h3 id={id}>{t("models.history")}</h3>
      <ol>
        {alias.history.slice(0, SHOWN).map((state, index) => (
          <li key={state.revision} data-action={state.action}>
            <strong>{happened(state, alias.history[index + 1], t)}</strong>
            <span>{t("models.history.by", { actor: state.actor || "–", time: format.since(state.at_ms) })}</span>
            {state.note && <q>{state.note}</q>}
          </li>
        ))}
      </ol>
      <p>{t("models.history.short")}</p>
    </section>
  );
}

function happened(state: AliasState, before: AliasState | undefined, t: Translate): string {
  if (state.action === "promote") return t("models.history.promote", { version: state.live_version });
  if (state.action === "roll_back") return t("models.history.roll_back", { version: state.live_version });
  if (state.action === "retire") return t("models.history.retire");
  if (state.action === "shadow") {
    return state.shadow_version ? t("models.history.shadow", { version: state.shadow_version }) : t("models.history.shadow.none");
  }
  return t("models.history.add", { version: addedIn(state, before) ?? "–" });
}
