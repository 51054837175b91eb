import { ButtonLook } from "../../components/Button";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { useOutbox, useReviewStation } from "../../review/hooks";
import styles from "./RefusedList.module.css";

/** Answers that the server will not take, with its reason, until a person has seen them. */
export function RefusedList() {
  const { t } = useI18n();
  const station = useReviewStation();
  const { refused } = useOutbox();
  if (refused.length === 0) return null;
  return (
    <Panel title={t("review.refused.title")} tone="review">
      <ul className={styles["list"]}>
        {refused.map((parcel) => (
          <li key={parcel.id} data-testid="refused">
            <p>
              <b>{parcel.partId || parcel.caseId}</b>{" "}
              {t(parcel.kind === "undo" ? "review.refused.undo" : "review.refused.answer", { reason: parcel.refused?.message ?? "" })}
            </p>
            <button type="button" className={ButtonLook} onClick={() => void station.openCase(parcel.caseId)}>
              {t("review.refused.open")}
            </button>
            <button type="button" className={ButtonLook} onClick={() => void station.outbox.retry(parcel.id)}>
              {t("picture.retry")}
            </button>
            <button type="button" className={ButtonLook} onClick={() => void station.outbox.dismiss(parcel.id)}>
              {t("review.refused.dismiss")}
            </button>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
