import { useCallback, useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { fetchTraining } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { useAsked } from "../../models/useAsked";
import { useRun } from "../../training/useRun";
import { RunView } from "./RunView";
import { useNaming } from "./TrainingPage";
import styles from "./TrainingPage.module.css";

const EVERY_MS = 5_000;

/** One run at its own address. */
export function RunPage() {
  const { t } = useI18n();
  const { runId = "" } = useParams();
  useEffect(() => {
    document.title = `${t("training.title")} · ${t("app.name")}`;
  }, [t]);
  const [turn, setTurn] = useState(0);
  const { run, problem } = useRun(runId, turn);
  const ask = useCallback((signal: AbortSignal) => fetchTraining(signal), []);
  const overview = useAsked(ask, EVERY_MS);
  const [naming, onName] = useNaming();
  if (naming !== null) return naming;
  const back = (
    <Link className={ButtonLook} to="/training">
      <Icon name="left" size={18} />
      {t("training.back")}
    </Link>
  );
  if (run === null) {
    if (problem === null) return <Message title={t("training.loading")} />;
    if (problem.reason === "no_trainer") return <Message title={t("training.title")} text={t("training.off")}>{back}</Message>;
    if (problem.reason === "not_found" || problem.reason === "invalid_input") {
      return <Message title={t("training.gone.title")} text={t("training.gone.text")}>{back}</Message>;
    }
    return <Message title={t("training.away.title")} text={t("training.away.text")}>{back}</Message>;
  }
  const alias = overview.value?.aliases.find((one) => one.alias === run.alias) ?? null;
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("training.title")}</h1>
        {back}
      </header>
      {problem && (
        <p className={styles["note"]} role="status" data-testid="away">
          {t(problem.reason === "offline" ? "training.server_away" : "training.away")}
        </p>
      )}
      <RunView run={run} alias={alias} onName={onName} onChanged={() => {
        setTurn(turn + 1);
        overview.again();
      }} />
    </div>
  );
}
