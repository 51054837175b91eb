import { useCallback, useState } from "react";
import { fetchLineEvents, type LineEvent } from "../../api/lines";
import { useI18n } from "../../i18n";
import { errorText, eventText } from "../../lines/words";
import { useAsked } from "../../models/useAsked";
import styles from "./EventPanel.module.css";

const EVERY_MS = 2_000;
const SHOWN = 100;

/** What happened between the line and its connections; asked for only while it is looked at. */
export function EventPanel({ lineId }: { lineId: string }) {
  const { t } = useI18n();
  const [open, setOpen] = useState(false);
  return (
    <details className={styles["events"]} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{t("line.events")}</summary>
      {open && <Events lineId={lineId} />}
    </details>
  );
}

function Events({ lineId }: { lineId: string }) {
  const { t } = useI18n();
  const ask = useCallback((signal: AbortSignal) => fetchLineEvents(lineId, SHOWN, signal), [lineId]);
  const { value, problem } = useAsked(ask, EVERY_MS);
  if (problem && value === null) return <p className={styles["quiet"]}>{t("line.outcomes.away")}</p>;
  if (value?.length === 0) return <p className={styles["quiet"]}>{t("line.events.none")}</p>;
  return (
    // Scrolls by the keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={styles["scroll"]} role="group" aria-label={t("line.events")} tabIndex={0}>
      <ol data-testid="events">
        {(value ?? []).map((event) => (
          <Row key={event.event_id} event={event} />
        ))}
      </ol>
    </div>
  );
}

function Row({ event }: { event: LineEvent }) {
  const { t, format } = useI18n();
  const facts = [
    event.verdict && t(`verdict.${event.verdict}`),
    event.light && t(`light.${event.light}`),
    event.part_id && t("line.connection.part", { part: event.part_id }),
    event.connection,
    event.actor,
    errorText(event.error_code, t),
    event.detail,
  ];
  return (
    <li>
      <time>{format.clock(event.at_ms)}</time>
      <strong>{eventText(event, t)}</strong>
      <span>{facts.filter(Boolean).join(" · ")}</span>
    </li>
  );
}
