import { useId, useState } from "react";
import { useMay } from "../../access/hooks";
import type { Alarm, LineNow } from "../../api/lines";
import { Acknowledge } from "../../components/Acknowledge";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { LampMark } from "../../components/StackLight";
import { useI18n } from "../../i18n";
import { alarmText } from "../../lines/words";
import styles from "./AlarmPanel.module.css";

const MAX_NOTE = 500;

/** What must be acknowledged, and what was: by whom and when. */
export function AlarmPanel({ line }: { line: LineNow }) {
  const { t } = useI18n();
  return (
    <Panel title={t("alarm.panel")}>
      {line.alarms.length === 0 ? (
        <p className={styles["none"]}>{t("alarm.none")}</p>
      ) : (
        <ul className={styles["standing"]} data-testid="alarms">
          {line.alarms.map((alarm) => (
            <Standing key={alarm.alarm_id} lineId={line.line_id} alarm={alarm} />
          ))}
        </ul>
      )}
      <details className={styles["past"]} open={line.alarms.length === 0 && line.past_alarms.length > 0}>
        <summary>
          {t("alarm.past")} ({line.past_alarms.length})
        </summary>
        {line.past_alarms.length === 0 && <p className={styles["none"]}>{t("alarm.past.none")}</p>}
        {/* Scrolls by the keyboard too. */}
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
        <div role="group" aria-label={t("alarm.past")} tabIndex={0}>
          <ul data-testid="past-alarms">
            {line.past_alarms.map((alarm) => (
              <Past key={alarm.alarm_id} alarm={alarm} />
            ))}
          </ul>
        </div>
      </details>
    </Panel>
  );
}

function Standing({ lineId, alarm }: { lineId: string; alarm: Alarm }) {
  const { t } = useI18n();
  const [note, setNote] = useState("");
  const may = useMay("acknowledge");
  const id = useId();
  return (
    <li data-light={alarm.light ?? "none"}>
      <div className={styles["said"]}>
        <LampMark light={alarm.light} size={22} />
        <div>
          <strong>{alarmText(alarm.text, t)}</strong>
          <Facts alarm={alarm} />
        </div>
      </div>
      {may && (
        <div className={styles["note"]}>
          <label htmlFor={id}>{t("alarm.note")}</label>
          <input id={id} value={note} maxLength={MAX_NOTE} onChange={(event) => setNote(event.target.value)} />
        </div>
      )}
      <Acknowledge lineId={lineId} alarm={alarm} note={note} />
    </li>
  );
}

function Past({ alarm }: { alarm: Alarm }) {
  const { t, format } = useI18n();
  return (
    <li>
      <span>{alarmText(alarm.text, t)}</span>
      <Facts alarm={alarm} />
      <span className={styles["by"]}>
        <Icon name="check" size={16} />
        {t("alarm.by", { person: alarm.acknowledged_by, time: format.dayAndMinute(alarm.acknowledged_at_ms ?? 0) })}
      </span>
      {alarm.note && <q>{alarm.note}</q>}
    </li>
  );
}

function Facts({ alarm }: { alarm: Alarm }) {
  const { t, format } = useI18n();
  const facts = [format.since(alarm.raised_at_ms), alarm.part_id && t("alarm.part", { part: alarm.part_id })];
  if (alarm.repeats > 0) {
    facts.push(alarm.repeats === 1 ? t("alarm.repeats.one") : t("alarm.repeats", { count: format.count(alarm.repeats) }));
  }
  return <span className={styles["facts"]}>{facts.filter(Boolean).join(" · ")}</span>;
}
