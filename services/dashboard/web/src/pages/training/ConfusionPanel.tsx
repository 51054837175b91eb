import type { CandidateReport, Confusion } from "../../api/training";
import type { Verdict } from "../../api/types";
import { Panel } from "../../components/Panel";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import styles from "./ConfusionPanel.module.css";

const VERDICTS: Verdict[] = ["pass", "review", "fail"];
const TRUTHS = ["good", "defective"] as const;

/** What each of the two versions says of the held-out parts, by what they are. */
export function ConfusionPanel({ report }: { report: CandidateReport }) {
  const { t } = useI18n();
  return (
    <Panel title={t("training.confusion")}>
      <div className={styles["two"]}>
        {report.live ? (
          <Matrix title={t("training.confusion.live", { version: report.live_version })} confusion={report.live} />
        ) : (
          <p className={styles["quiet"]}>{t("training.confusion.none")}</p>
        )}
        <Matrix title={t("training.confusion.candidate")} confusion={report.candidate} />
      </div>
    </Panel>
  );
}

function Matrix({ title, confusion }: { title: string; confusion: Confusion }) {
  const { t, format } = useI18n();
  return (
    <table className={styles["matrix"]}>
      <caption>{title}</caption>
      <thead>
        <tr>
          <th scope="col">{t("training.confusion.truth")}</th>
          {VERDICTS.map((verdict) => (
            <th key={verdict} scope="col">
              <span>
                <VerdictMark verdict={verdict} size={16} />
                {t(`verdict.${verdict}`)}
              </span>
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {TRUTHS.map((truth) => {
          const row = confusion[truth];
          const all = row.pass + row.review + row.fail;
          return (
            <tr key={truth}>
              <th scope="row">{t(`training.confusion.${truth}`)}</th>
              {VERDICTS.map((verdict) => (
                <td key={verdict} data-kind={kindOf(truth, verdict)}>
                  <b>{format.count(row[verdict])}</b>
                  <small>{all > 0 ? format.percent(row[verdict] / all) : "–"}</small>
                </td>
              ))}
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function kindOf(truth: "good" | "defective", verdict: Verdict): "right" | "wrong" | "asks" {
  if (verdict === "review") return "asks";
  return (truth === "good") === (verdict === "pass") ? "right" : "wrong";
}
