import { useEffect, useRef, useState, type ReactNode } from "react";
import { Link } from "react-router";
import { caseThumbnailUrl, fetchReviews } from "../../api/client";
import type { ListedReview } from "../../api/types";
import { ButtonLook, IconButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { NewMark } from "../../components/NewMark";
import { useI18n } from "../../i18n";
import { useNewChange } from "../../models/watch";
import { useOutbox, useReviewStation, useStation } from "../../review/hooks";
import styles from "./AnswersDrawer.module.css";
import { answerLabel, recordLabel } from "./words";

const SHOWN = 50;

interface Row {
  reviewId: string;
  caseId: string;
  partId: string | null;
  label: string;
  atMs: number;
  waiting: boolean;
  undo: () => void;
}

/** What this person said last, each with a way to take it back. */
export function AnswersDrawer({ reviewer, notices, onClose }: { reviewer: string; notices: ReactNode; onClose: () => void }) {
  const { t, format } = useI18n();
  const [recorded, away] = useRecorded(reviewer);
  const rows = useRows(recorded, onClose);
  const news = useNewChange();
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    close.current?.focus();
    return () => (before instanceof HTMLElement ? before.focus() : undefined);
  }, []);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" && event.key.toLowerCase() !== "l") return;
      event.preventDefault();
      onClose();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [onClose]);
  return (
    <section className={styles["drawer"]} aria-label={t("review.answers.title")} data-testid="answers">
      <header>
        <h2>{t("review.answers.title")}</h2>
        <button type="button" ref={close} className={IconButtonLook} aria-label={t("review.answers.close")} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <Link className={styles["changes"]} to="/changes">
        {t("models.changes")}
        {news && <NewMark />}
      </Link>
      {notices}
      {away && <p className={styles["note"]}>{t("review.answers.away")}</p>}
      {rows.length === 0 && !away && <p className={styles["note"]}>{t(recorded === null ? "review.answers.loading" : "review.answers.none")}</p>}
      <ul>
        {rows.map((row) => (
          <li key={row.reviewId}>
            <img src={caseThumbnailUrl(row.caseId, 160)} alt="" loading="lazy" decoding="async" draggable={false} />
            <div>
              <strong>{row.label}</strong>
              <span>
                {format.since(row.atMs)}
                {row.partId !== null && ` · ${row.partId}`}
              </span>
              {row.waiting && <span className={styles["waiting"]}>{t("review.answers.waiting")}</span>}
            </div>
            <button type="button" className={ButtonLook} onClick={row.undo}
              aria-label={t("review.answers.undo", { answer: row.label, part: row.partId ?? "" })}>
              <Icon name="undo" size={18} />
              {t("review.undo.short")}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function useRecorded(reviewer: string): [ListedReview[] | null, boolean] {
  const { outbox } = useReviewStation();
  const [reviews, setReviews] = useState<ListedReview[] | null>(null);
  const [away, setAway] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    const read = () => {
      fetchReviews(reviewer, SHOWN, abort.signal).then(
        (found) => {
          setReviews(found);
          setAway(false);
        },
        () => !abort.signal.aborted && setAway(true),
      );
    };
    read();
    const stop = outbox.onTaken(read);
    return () => {
      abort.abort();
      stop();
    };
  }, [reviewer, outbox]);
  return [reviews, away];
}

/** What waits here first, then what is on record and not being taken back. */
function useRows(recorded: ListedReview[] | null, onClose: () => void): Row[] {
  const { t } = useI18n();
  const station = useReviewStation();
  const { turns } = useStation();
  const { parcels } = useOutbox();
  const undone = new Set(parcels.filter((one) => one.kind === "undo").map((one) => one.undoes));
  const waiting = turns.flatMap((turn): Row[] => {
    if (turn.said === "skip" || !parcels.some((one) => one.id === turn.reviewId)) return [];
    const { reviewId, caseId, partId, atMs } = turn;
    const undo = () => {
      onClose();
      void station.undo(turn);
    };
    return [{ reviewId, caseId, partId, atMs, label: answerLabel(turn.said, turn.verdict, t), waiting: true, undo }];
  });
  const here = new Set(waiting.map((one) => one.reviewId));
  const kept = (recorded ?? [])
    .filter((review) => review.action === "answer" && !undone.has(review.review_id) && !here.has(review.review_id))
    .map((review): Row => ({
      reviewId: review.review_id,
      caseId: review.case_id,
      partId: review.part_id,
      label: recordLabel(review, review.verdict, t),
      atMs: review.reviewed_at_ms,
      waiting: false,
      undo: () => {
        onClose();
        void station.undoRecorded(review);
      },
    }));
  return [...waiting.reverse(), ...kept];
}
