import { useEffect, useState } from "react";
import { useI18n, type Translate } from "../../i18n";
import { useOutbox, useStation } from "../../review/hooks";
import type { OutboxState } from "../../review/outbox";
import { answeredIn, answersPerMinute } from "../../review/session";
import type { Event } from "../../review/station";
import styles from "./StatusLine.module.css";
import { answerLabel } from "./words";

/** What happened last, what the server does not have yet, and how far one is. */
export function StatusLine({ correcting = false }: { correcting?: boolean }) {
  const { t, format } = useI18n();
  const { event, stats, turns, draftsKept } = useStation();
  const outbox = useOutbox();
  const [nowMs, setNowMs] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), 5_000);
    return () => clearInterval(timer);
  }, []);
  const rate = answersPerMinute(turns, nowMs);
  const answered = answeredIn(turns);
  const post = postPhrase(outbox, t);
  return (
    <div className={styles["line"]} data-testid="status">
      <p className={styles["event"]} role="status">
        {correcting ? t("review.status.correcting") : event ? phraseOf(event.what, t) : t("review.status.ready")}
      </p>
      <p className={styles["post"]} role="status" data-away={outbox.away || outbox.refused.length > 0} data-testid="post">
        {post}
      </p>
      {!(outbox.kept && draftsKept) && (
        <p className={styles["post"]} role="alert" data-away="true">
          {t("review.status.unkept")}
        </p>
      )}
      <p className={styles["progress"]}>
        {stats && <span>{t("review.progress.open", { count: format.count(stats.open) })}</span>}
        <span>{t("review.progress.mine", { count: format.count(answered) })}</span>
        {rate !== null && <span>{t("review.progress.rate", { rate: format.rate(rate) })}</span>}
      </p>
    </div>
  );
}

function postPhrase(outbox: OutboxState, t: Translate): string {
  const phrases: string[] = [];
  const { waiting, away } = outbox;
  const refused = outbox.refused.length;
  if (waiting > 0 && !away) phrases.push(t("review.post.sending"));
  if (waiting > 0 && away) phrases.push(t(waiting === 1 ? "review.post.waiting.one" : "review.post.waiting", { count: waiting }));
  if (refused > 0) phrases.push(t(refused === 1 ? "review.post.refused.one" : "review.post.refused", { count: refused }));
  if (outbox.others > 0) phrases.push(t(outbox.others === 1 ? "review.post.others.one" : "review.post.others", { count: outbox.others }));
  return phrases.length > 0 ? phrases.join(" · ") : t("review.post.sent");
}

function phraseOf(event: Event, t: Translate): string {
  switch (event.kind) {
    case "answered":
      return t("review.event.answered", { part: event.turn.partId, answer: answerLabel(event.turn.said, event.turn.verdict, t) });
    case "skipped":
    case "undone":
    case "held":
    case "done_by_others":
      return t(`review.event.${event.kind}`, { part: event.partId });
    case "neighbours":
      return t(event.cases === 1 ? "review.event.neighbours.one" : "review.event.neighbours", { part: event.partId, count: event.cases });
    case "failed":
      return t("review.event.failed", { reason: event.problem.message });
    default:
      return t(`review.event.${event.kind}`);
  }
}
