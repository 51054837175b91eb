import { useEffect, useState } from "react";
import { useParams, useSearchParams } from "react-router";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import { HeaderTools } from "../../components/HeaderTools";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { useReviewStation, useStation } from "../../review/hooks";
import { current, putAside } from "../../review/queue";
import { AnswersDrawer } from "./AnswersDrawer";
import { NewMark } from "../../components/NewMark";
import { useNotices } from "../../training/useNotices";
import { NameForm } from "./NameForm";
import { NoticeList } from "./NoticeList";
import { RefusedList } from "./RefusedList";
import styles from "./ReviewPage.module.css";
import { Sitting } from "./Sitting";
import { StatusLine } from "./StatusLine";

/** The station where people judge the line's cases one after the other. */
export function ReviewPage() {
  const { t } = useI18n();
  const station = useReviewStation();
  const { reviewer, trail } = useStation();
  const { caseId = null } = useParams();
  const [search] = useSearchParams();
  const line = search.get("line");
  const [renaming, setRenaming] = useState(false);
  const [drawer, setDrawer] = useState(false);
  const { notices, onDismiss } = useNotices(reviewer);
  useEffect(() => {
    document.title = `${t("nav.review")} · ${t("app.name")}`;
  }, [t]);
  useEffect(() => {
    station.enter(line, caseId);
    return () => station.leave();
  }, [station, line, caseId]);
  const one = current(trail);
  const shownId = one?.case_id ?? null;
  useEffect(() => {
    if (shownId === null) return;
    // Not through the router: a case is no new page, and what has the keyboard keeps it.
    history.replaceState(history.state, "", `/review/${shownId}${location.search}`);
  }, [shownId]);
  if (reviewer === null || renaming) {
    return (
      <NameForm name={reviewer ?? ""} onName={(name) => {
        station.setReviewer(name);
        setRenaming(false);
      }} />
    );
  }
  return (
    <>
      <HeaderTools>
        {station.owner === null && (
          <span className={styles["reviewer"]}>
            <Icon name="person" size={18} />
            <b>{reviewer}</b>
            <button type="button" className={styles["change"]} onClick={() => setRenaming(true)}>
              {t("review.name.change")}
            </button>
          </span>
        )}
        <button type="button" className={ButtonLook} aria-expanded={drawer} onClick={() => setDrawer(!drawer)}
          title={t("review.answers.hint")}>
          <Icon name="list" size={18} />
          <span className={styles["wide"]}>{t("review.answers.title")}</span>
          {notices.length > 0 && <NewMark label={t("training.notice.mark")} />}
        </button>
      </HeaderTools>
      <h1 className="visually-hidden">{t("nav.review")}</h1>
      {one ? <Sitting one={one} listening={!drawer} onAnswers={() => setDrawer(!drawer)} /> : <Idle />}
      {drawer && (
        <AnswersDrawer reviewer={reviewer} notices={<NoticeList notices={notices} onDismiss={onDismiss} />}
          onClose={() => setDrawer(false)} />
      )}
    </>
  );
}

/** Nothing is on screen: the queue is empty, on its way, or cannot be read. */
function Idle() {
  const { t } = useI18n();
  const station = useReviewStation();
  const { started, queueProblem, trail } = useStation();
  const aside = putAside(trail).length;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.key.toLowerCase() === "z") void station.undoLast();
      else if (event.key === "ArrowLeft") station.walk(-1);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [station]);
  const [title, text] = (() => {
    if (queueProblem?.reason === "no_feedback") return ["review.no_feedback.title", "review.no_feedback.text"] as const;
    if (queueProblem) return ["review.away.title", "review.away.text"] as const;
    if (!started) return ["review.loading", null] as const;
    return ["review.empty.title", "review.empty.text"] as const;
  })();
  return (
    <div className={styles["idle"]}>
      <Message title={t(title)} {...(text === null ? {} : { text: t(text) })}>
        {aside > 0 && (
          <button type="button" className={StrongButtonLook} onClick={() => station.lookAgain()}>
            {t(aside === 1 ? "review.aside.one" : "review.aside", { count: aside })}
          </button>
        )}
        {trail.cases.length > 0 && (
          <button type="button" className={ButtonLook} onClick={() => void station.undoLast()}>
            <Icon name="undo" size={18} />
            {t("review.undo")}
          </button>
        )}
      </Message>
      <RefusedList />
      <StatusLine />
    </div>
  );
}
