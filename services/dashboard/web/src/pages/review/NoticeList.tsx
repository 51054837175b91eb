import { Link } from "react-router";
import type { Notice } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { useI18n } from "../../i18n";
import { reasonText } from "../../training/words";
import styles from "./NoticeList.module.css";

/** What became of runs that learnt from this person's answers, until it is dismissed. */
export function NoticeList({ notices, onDismiss }: { notices: Notice[]; onDismiss: (notice: Notice) => void }) {
  const { t, format } = useI18n();
  if (notices.length === 0) return null;
  return (
    <section className={styles["notices"]} aria-label={t("training.notice.title")} data-testid="notices">
      {notices.map((notice) => {
        const { alias, missed, mine } = notice;
        return (
          <article key={`${notice.run_id} ${notice.kind}`}>
            <p>
              <strong>{t(`training.notice.${notice.kind}`, { alias, missed, mine })}</strong>
            </p>
            {notice.kind === "refused" && <p>{reasonText(notice, t)}</p>}
            {notice.kind === "refused" && missed > 0 && <p>{t("training.notice.refused.missed", { missed, mine })}</p>}
            <div>
              <time>{format.since(notice.ended_at_ms)}</time>
              <Link className={ButtonLook} to={`/training/${notice.run_id}`}>
                {t("training.notice.open")}
              </Link>
              <button type="button" className={ButtonLook} onClick={() => onDismiss(notice)}>
                {t("training.notice.dismiss")}
              </button>
            </div>
          </article>
        );
      })}
    </section>
  );
}
