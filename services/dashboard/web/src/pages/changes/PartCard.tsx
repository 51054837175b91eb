import { useEffect, useState } from "react";
import { Link } from "react-router";
import { ApiError, caseThumbnailUrl, sendUndo } from "../../api/client";
import type { ComparedPart, Correction, PartVerdict } from "../../api/models";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { ScoreBar } from "../../components/ScoreBar";
import { VerdictBadge } from "../../components/VerdictBadge";
import { hasMessage, useI18n } from "../../i18n";
import { mineFirst, pickOf } from "../../models/changes";
import { newId } from "../../review/answers";
import { useStation } from "../../review/hooks";
import styles from "./PartCard.module.css";

const SURE_MS = 6_000;

/** A corrected part: what was said of it before, by whom it was corrected, and what the new model says. */
export function PartCard({ part, onName, onUndone }: { part: ComparedPart; onName: () => void; onUndone: () => void }) {
  const { t } = useI18n();
  const { reviewer } = useStation();
  const outcome = pickOf(part);
  const leftOut = `changes.left_out.${part.left_out}`;
  return (
    <li className={styles["card"]} data-outcome={outcome} data-testid={`part-${part.part_id}`}>
      <Link className={styles["picture"]} to={`/review/${part.case_id}`} aria-label={t("changes.part.open", { part: part.part_id })}>
        <img src={caseThumbnailUrl(part.case_id, 320)} alt="" loading="lazy" decoding="async" draggable={false} />
      </Link>
      <span className={styles["outcome"]} data-outcome={outcome}>{t(`changes.outcome.${outcome}`)}</span>
      <div className={styles["body"]}>
        <p className={styles["name"]}>{part.part_id}</p>
        <Told label={t("changes.part.was")} said={part.before} />
        {part.after && <Told label={t("changes.part.is")} said={part.after} />}
        {part.left_out !== "" && <p className={styles["quiet"]}>{t(hasMessage(leftOut) ? leftOut : "changes.left_out.other")}</p>}
        <ul className={styles["said"]}>
          {part.corrections.map((one) => (
            <li key={one.review_id} data-withdrawn={one.withdrawn}>
              {t(`changes.said.${one.kind}.${one.settled}`, { name: one.reviewer === reviewer ? t("changes.said.you") : one.reviewer })}
              {one.defect_class && ` · ${one.defect_class}`}
            </li>
          ))}
        </ul>
        <Undo part={part} correction={mineFirst(part, reviewer)} reviewer={reviewer} onName={onName} onUndone={onUndone} />
      </div>
    </li>
  );
}

function Told({ label, said }: { label: string; said: PartVerdict }) {
  const { t, format } = useI18n();
  return (
    <div className={styles["told"]}>
      <span className={styles["label"]}>
        {label} · {t("changes.part.version", { version: said.model_version })}
      </span>
      <span className={styles["verdict"]}>
        <VerdictBadge verdict={said.verdict} />
        {said.score !== null && <b>{format.score(said.score)}</b>}
      </span>
      <ScoreBar part={said} />
    </div>
  );
}

interface UndoProps {
  part: ComparedPart;
  correction: Correction | null;
  reviewer: string | null;
  onName: () => void;
  onUndone: () => void;
}

/** Two presses take a correction back; one alone, or a slip of the finger, does nothing. */
function Undo({ part, correction, reviewer, onName, onUndone }: UndoProps) {
  const { t } = useI18n();
  const [state, setState] = useState<"idle" | "sure" | "sending">("idle");
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    if (state !== "sure") return;
    const timer = setTimeout(() => setState("idle"), SURE_MS);
    return () => clearTimeout(timer);
  }, [state]);
  if (correction === null) {
    return (
      <p className={styles["undone"]} role="status">
        <Icon name="undo" size={16} />
        <b>{t("changes.undo.done")}</b> {t("changes.undo.done.text")}
      </p>
    );
  }
  const press = () => {
    if (reviewer === null) return onName();
    if (state === "idle") return setState("sure");
    if (state === "sending") return;
    setState("sending");
    setProblem(null);
    sendUndo(correction.review_id, { review_id: newId(), reviewer, said_at_ms: Date.now() }).then(
      () => {
        setState("idle");
        onUndone();
      },
      (error: unknown) => {
        setState("idle");
        setProblem(error instanceof ApiError ? error.problem.message : String(error));
        // Somebody else may have taken it back: then it is shown as it is.
        if (error instanceof ApiError && error.status === 409) onUndone();
      },
    );
  };
  const text = state === "sure" ? t("changes.undo.sure") : t(state === "sending" ? "changes.undo.sending" : "changes.undo");
  return (
    <>
      <button type="button" className={`${ButtonLook} ${styles["undo"]}`} data-state={state} onClick={press}
        aria-label={state === "idle" ? t("changes.undo.label", { part: part.part_id }) : undefined}>
        <Icon name="undo" size={18} />
        {text}
      </button>
      {problem !== null && <p className={styles["problem"]} role="alert">{t("changes.undo.failed", { reason: problem })}</p>}
    </>
  );
}
