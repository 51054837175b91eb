import type { CandidateReport, Gate } from "../../api/training";
import { Icon } from "../../components/Icon";
import { hasMessage, useI18n, type Translate } from "../../i18n";
import type { Formats } from "../../i18n/format";
import { isFloor, unitOf } from "../../training/run";
import styles from "./Tables.module.css";

const MARKS = { kept: "check", broken: "close", not_measured: "minus" } as const;

/** Every gate with what was measured at it. */
export function GateTable({ report }: { report: CandidateReport }) {
  const { t, format } = useI18n();
  const counts = {
    holdout: format.count(report.holdout_parts),
    train: format.count(report.train_parts),
    lessons: format.count(report.lessons),
  };
  return (
    <>
      {/* A region that scrolls must be reachable by keys. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className={styles["scroll"]} role="group" aria-label={t("training.gates")} tabIndex={0}>
        <table data-testid="gates">
          <thead>
            <tr>
              <th scope="col">{t("training.gate")}</th>
              <th scope="col">{t("training.gate.live")}</th>
              <th scope="col">{t("training.gate.candidate")}</th>
              <th scope="col">{t("training.gate.bound")}</th>
              <th scope="col">{t("training.gate.interval")}</th>
              <th scope="col">{t("training.gate.parts")}</th>
              <th scope="col" className={styles["result"]}>{t("training.gate.result")}</th>
            </tr>
          </thead>
          <tbody>
            {report.gates.map((gate) => (
              <tr key={gate.name} data-state={gate.state}>
                <th scope="row">{gateName(gate.name, t)}</th>
                <td>{figure(gate, gate.live, format)}</td>
                <td>
                  <b>{figure(gate, gate.candidate, format)}</b>
                </td>
                <td>{bound(gate, t, format)}</td>
                <td>{interval(gate, t, format)}</td>
                <td>{gate.parts > 0 ? format.count(gate.parts) : "–"}</td>
                <td className={styles["result"]}>
                  <span className={styles["state"]} data-state={gate.state}>
                    <Icon name={MARKS[gate.state]} size={16} />
                    {t(`training.gate.${gate.state}`)}
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p className={styles["text"]}>{t("training.gates.text", counts)}</p>
    </>
  );
}

/** A gate that this release has no words for is called by its own name. */
export function gateName(name: string, t: Translate): string {
  const key = `training.gate.${name}`;
  return hasMessage(key) ? t(key) : name;
}

function figure(gate: Gate, value: number | null, format: Formats): string {
  if (value === null) return "–";
  const unit = unitOf(gate.name);
  if (unit === "parts") return format.count(value);
  if (unit === "share") return format.percentRare(value);
  return unit === "milliseconds" ? format.milliseconds(value) : format.fine(value);
}

function bound(gate: Gate, t: Translate, format: Formats): string {
  if (gate.bound === null) return gate.state === "not_measured" ? "–" : t("training.gate.bound.none");
  return t(isFloor(gate.name) ? "training.gate.bound.least" : "training.gate.bound.most", { bound: figure(gate, gate.bound, format) });
}

function interval(gate: Gate, t: Translate, format: Formats): string {
  if (gate.low === null || gate.high === null) return "–";
  const ends = { low: figure(gate, gate.low, format), high: figure(gate, gate.high, format) };
  return t(gate.name === "mcc" ? "training.gate.interval.difference" : "training.gate.interval.figure", ends);
}
