import { useState } from "react";
import { Link } from "react-router";
import type { FlippedPart } from "../../api/training";
import type { Verdict } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { VerdictBadge } from "../../components/VerdictBadge";
import { useI18n } from "../../i18n";
import styles from "./Tables.module.css";

const SHOWN = 8;

/** Parts whose verdict comes out otherwise; those of the line lead to their page. */
export function FlipsTable({ title, flips }: { title: string; flips: FlippedPart[] }) {
  const { t, format } = useI18n();
  const [all, setAll] = useState(false);
  const shown = all ? flips : flips.slice(0, SHOWN);
  return (
    <section>
      <h3 className={styles["caption"]}>{title}</h3>
      {flips.length === 0 ? (
        <p className={styles["text"]}>{t("training.flips.none")}</p>
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className={styles["scroll"]} role="group" aria-label={title} tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("training.flips.part")}</th>
                <th scope="col">{t("training.flips.truth")}</th>
                <th scope="col">{t("training.flips.before")}</th>
                <th scope="col">{t("training.flips.after")}</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((flip) => (
                <tr key={`${flip.frame_id ?? ""} ${flip.part_id} ${flip.product}`}>
                  <th scope="row">
                    {flip.frame_id === null ? (
                      flip.part_id
                    ) : (
                      <Link className={styles["link"]} to={`/parts/${flip.frame_id}`} aria-label={t("training.flips.open", { part: flip.part_id })}>
                        {flip.part_id}
                      </Link>
                    )}
                  </th>
                  <td>{flip.label || "–"}</td>
                  <td>
                    <Said verdict={flip.before} score={flip.before_score} />
                  </td>
                  <td>
                    <Said verdict={flip.after} score={flip.after_score} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {shown.length < flips.length && (
        <button type="button" className={ButtonLook} onClick={() => setAll(true)}>
          {t("training.flips.more", { count: format.count(flips.length) })}
        </button>
      )}
    </section>
  );
}

export function Said({ verdict, score }: { verdict: Verdict; score: number | null }) {
  const { format } = useI18n();
  return (
    <span className={styles["pair"]}>
      <VerdictBadge verdict={verdict} />
      {score !== null && <small>{format.score(score)}</small>}
    </span>
  );
}
