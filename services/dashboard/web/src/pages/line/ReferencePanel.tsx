import { useMay } from "../../access/hooks";
import { beginReferenceCheck, type LineNow, type ReferencePart } from "../../api/lines";
import type { Verdict } from "../../api/types";
import { NameInPlace } from "../../components/Acknowledge";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import { useNamedAction } from "../../lines/useNamedAction";
import { SureButton } from "../training/SureButton";
import styles from "./ReferencePanel.module.css";

/** Known good and known bad parts: what must come of them, what did, and a way to begin anew. */
export function ReferencePanel({ line }: { line: LineNow }) {
  const { t, format } = useI18n();
  const may = useMay("acknowledge");
  const { reference } = line;
  const action = useNamedAction((person) => beginReferenceCheck(line.line_id, person));
  if (reference.phase === null) {
    return (
      <Panel title={t("line.reference")}>
        <p className={styles["quiet"]}>{t("line.reference.none")}</p>
      </Panel>
    );
  }
  const facts = [
    reference.occasion && t("line.reference.occasion", { occasion: reference.occasion }),
    reference.ended_at_ms === null
      ? reference.due_at_ms !== null && t("line.reference.due.since", { time: format.since(reference.due_at_ms) })
      : t("line.reference.ended", { time: format.since(reference.ended_at_ms) }),
  ];
  return (
    <Panel title={t("line.reference")}>
      <div className={styles["reference"]} data-testid="reference">
        <p className={styles["phase"]} data-phase={reference.phase}>
          <strong>{t(`line.reference.${reference.phase}`)}</strong>
          <span>{facts.filter(Boolean).join(" · ")}</span>
        </p>
        {reference.phase === "due" && <p className={styles["quiet"]}>{t("line.reference.text")}</p>}
        <table>
          <thead>
            <tr>
              <th scope="col">{t("line.reference.part")}</th>
              <th scope="col">{t("line.reference.expected")}</th>
              <th scope="col">{t("line.reference.seen")}</th>
            </tr>
          </thead>
          <tbody>
            {reference.parts.map((part) => (
              <Row key={part.part_id} part={part} />
            ))}
          </tbody>
        </table>
        {action.problem !== null && <p role="alert">{t("alarm.failed", { why: action.problem })}</p>}
        {may && action.naming && (
          <NameInPlace label={t("line.reference.begin")} onName={action.name} onCancel={action.cancel} />
        )}
        {may && !action.naming && (
          <SureButton icon="play" text={t("line.reference.begin")} sure={t("line.reference.begin.sure")} disabled={action.sending}
            onSure={action.press} />
        )}
      </div>
    </Panel>
  );
}

function Row({ part }: { part: ReferencePart }) {
  const { t } = useI18n();
  const right = part.seen !== null && part.seen === part.expected;
  return (
    <tr data-state={part.seen === null ? "unseen" : right ? "right" : "wrong"}>
      <th scope="row">{part.part_id}</th>
      <td>{part.expected && <Word verdict={part.expected} />}</td>
      <td>
        {part.seen === null ? (
          <span className={styles["quiet"]}>{t("line.reference.unseen")}</span>
        ) : (
          <span className={styles["seen"]}>
            <Word verdict={part.seen} />
            <span className={styles["mark"]}>
              <Icon name={right ? "check" : "close"} size={16} />
              {t(right ? "line.reference.right" : "line.reference.wrong")}
            </span>
          </span>
        )}
      </td>
    </tr>
  );
}

function Word({ verdict }: { verdict: Verdict }) {
  const { t } = useI18n();
  return (
    <span className={styles["word"]}>
      <VerdictMark verdict={verdict} size={18} />
      {t(`verdict.${verdict}`)}
    </span>
  );
}
