import { useState } from "react";
import { Link } from "react-router";
import { caseThumbnailUrl } from "../../api/client";
import type { AnsweredPart, CandidateReport } from "../../api/training";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { missed } from "../../training/run";
import styles from "./AnsweredPanel.module.css";
import { Said } from "./FlipsTable";

const SHOWN = 6;

/** Whether the candidate does as people said; each part where it does not, with whose answer that is. */
export function AnsweredPanel({ report }: { report: CandidateReport }) {
  const { t, format } = useI18n();
  const [all, setAll] = useState(false);
  const wrong = missed(report);
  const count = report.answered.length;
  const shown = all ? wrong : wrong.slice(0, SHOWN);
  return (
    <Panel title={t("training.answered")}>
      <div className={styles["answered"]} data-testid="answered">
        <p className={styles["total"]}>
          {count === 0 && t("training.answered.none")}
          {count > 0 && wrong.length === 0 && t(count === 1 ? "training.answered.all.one" : "training.answered.all", { count: format.count(count) })}
          {wrong.length > 0 &&
            t("training.answered.some", { right: format.count(count - wrong.length), count: format.count(count) })}
        </p>
        {shown.length > 0 && (
          <ul>
            {shown.map((part) => (
              <Part key={`${part.image_sha256} ${part.part_id}`} part={part} />
            ))}
          </ul>
        )}
        {shown.length < wrong.length && (
          <button type="button" className={ButtonLook} onClick={() => setAll(true)}>
            {t("training.answered.more", { count: wrong.length - shown.length })}
          </button>
        )}
      </div>
    </Panel>
  );
}

function Part({ part }: { part: AnsweredPart }) {
  const { t } = useI18n();
  const [caseId] = part.case_ids;
  const said = part.label === "good" ? t("training.answered.label.good") : t("training.answered.label.class", { label: part.label });
  const body = (
    <>
      <span className={styles["picture"]}>
        {caseId !== undefined && <Thumb caseId={caseId} />}
      </span>
      <span className={styles["body"]}>
        <strong>{part.part_id}</strong>
        <span>{said}</span>
        <span className={styles["quiet"]}>{t("training.answered.by", { names: part.reviewers.join(", ") })}</span>
        <span className={styles["says"]}>
          {t("training.answered.says")} <Said verdict={part.verdict} score={part.score} />
        </span>
        {part.verdict_corrected && !part.verdict_right && <Wrong text={t("training.answered.verdict")} />}
        {part.region_corrected && !part.region_right && <Wrong text={t("training.answered.region")} />}
        {caseId !== undefined && (
          <span className={styles["open"]}>
            {t("training.answered.open")}
            <Icon name="right" size={16} />
          </span>
        )}
      </span>
    </>
  );
  return (
    <li data-testid={`answered-${part.part_id}`}>
      {caseId === undefined ? (
        <div className={styles["part"]}>{body}</div>
      ) : (
        <Link className={styles["part"]} to={`/review/${caseId}`}>
          {body}
        </Link>
      )}
    </li>
  );
}

function Wrong({ text }: { text: string }) {
  return (
    <span className={styles["wrong"]}>
      <Icon name="close" size={15} />
      {text}
    </span>
  );
}

/** A picture that is gone leaves its place. */
function Thumb({ caseId }: { caseId: string }) {
  const [failed, setFailed] = useState(false);
  if (failed) return <Icon name="broken" size={22} />;
  return (
    <img src={caseThumbnailUrl(caseId, 160)} alt="" loading="lazy" decoding="async" draggable={false} onError={() => setFailed(true)} />
  );
}
