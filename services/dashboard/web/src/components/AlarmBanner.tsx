import { useEffect, useRef, useState, type ReactNode } from "react";
import { Link, useLocation } from "react-router";
import type { Light, LineNow } from "../api/lines";
import { useI18n } from "../i18n";
import { linePath, newAlarms, redLines, shownLight, standingAlarms, type StandingAlarm } from "../lines/state";
import { alarmText, causeText } from "../lines/words";
import { useLive } from "../live/hooks";
import { Acknowledge } from "./Acknowledge";
import styles from "./AlarmBanner.module.css";
import { ButtonLook } from "./Button";
import { LampMark } from "./StackLight";

/** So many stand at the top of every page; all of them stand on their lines' pages. */
const SHOWN = 2;

/** What somebody must acknowledge, at the top of every page; spoken when it comes. */
export function AlarmBanner() {
  const { t } = useI18n();
  const { lines, phase } = useLive();
  const { pathname } = useLocation();
  const alarms = standingAlarms(lines);
  // Its own page says why a line is red in full. On old news no line is called red; an alarm stands all the same.
  const red = redLines(lines).filter(
    (line) => pathname !== linePath(line.line_id) && shownLight(lines, line, phase === "lost") === "red",
  );
  const rows = [...red.map((line) => ({ line })), ...alarms.map((standing) => ({ standing }))];
  const box = useBannerHeight();
  const shown = rows.slice(0, SHOWN);
  const rest = rows.slice(SHOWN).map((row) => ("line" in row ? row.line.line_id : row.standing.lineId));
  return (
    <>
      <Announcer alarms={alarms} />
      {rows.length > 0 && (
        <section ref={box} className={styles["banner"]} aria-label={t("alarm.banner")} data-testid="alarm-banner">
          {shown.map((row, place) => {
            const more = place === SHOWN - 1 ? <More lineIds={rest} /> : null;
            return "line" in row ? (
              <RedLine key={row.line.line_id} line={row.line} more={more} />
            ) : (
              <Row key={row.standing.alarm.alarm_id} {...row.standing} more={more} />
            );
          })}
        </section>
      )}
    </>
  );
}

/** The way to what has no room here. */
function More({ lineIds }: { lineIds: string[] }) {
  const { t } = useI18n();
  const [first] = lineIds;
  if (first === undefined) return null;
  return <Link to={new Set(lineIds).size === 1 ? linePath(first) : "/lines"}>{t("alarm.more", { count: lineIds.length })}</Link>;
}

function Row({ lineId, alarm, more }: StandingAlarm & { more: ReactNode }) {
  const { t, format } = useI18n();
  return (
    <div className={styles["row"]} data-light={toneOf(alarm.light)}>
      <LampMark light={toneOf(alarm.light)} size={26} />
      <p>
        <strong>{alarmText(alarm.text, t)}</strong>
        <Link to={linePath(lineId)}>{t("alarm.at", { line: lineId, time: format.since(alarm.raised_at_ms) })}</Link>
        {more}
      </p>
      <Acknowledge lineId={lineId} alarm={alarm} />
    </div>
  );
}

function RedLine({ line, more }: { line: LineNow; more: ReactNode }) {
  const { t } = useI18n();
  const why = line.causes.filter((cause) => cause.light === "red" && cause.token !== "alarm");
  return (
    <div className={styles["row"]} data-light="red">
      <LampMark light="red" size={26} />
      <p>
        <strong>{t("alarm.red_line", { line: line.line_id })}</strong>
        <span>{why.map((cause) => causeText(cause, line.alarms, t)).join(" · ")}</span>
        {more}
      </p>
      <Link className={ButtonLook} to={linePath(line.line_id)}>
        {t("alarm.to_line")}
      </Link>
    </div>
  );
}

/** Speaks each alarm once, also while the keyboard is elsewhere. */
function Announcer({ alarms }: { alarms: StandingAlarm[] }) {
  const { t } = useI18n();
  const known = useRef<ReadonlySet<string>>(new Set());
  const [said, setSaid] = useState("");
  const ids = alarms.map(({ alarm }) => alarm.alarm_id).join(" ");
  useEffect(() => {
    const fresh = newAlarms(known.current, alarms);
    known.current = new Set(ids === "" ? [] : ids.split(" "));
    if (fresh.length === 0) return;
    setSaid(
      fresh
        .map(({ lineId, alarm }) => t(`alarm.new.${toneOf(alarm.light)}`, { line: lineId, text: alarmText(alarm.text, t) }))
        .join(". "),
    );
    // Only what stands matters here; the rest of an alarm does not change while it does.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [ids]);
  return (
    <div className="visually-hidden" aria-live="assertive" data-testid="alarm-announcer">
      {said}
    </div>
  );
}

function toneOf(light: Light | null): "amber" | "red" {
  return light === "red" ? "red" : "amber";
}

/** Tells the pages that fill the window how much of it the banner takes. */
function useBannerHeight(): (element: HTMLElement | null) => void {
  const [element, setElement] = useState<HTMLElement | null>(null);
  useEffect(() => {
    const { style } = document.documentElement;
    if (element === null) return;
    const observer = new ResizeObserver(() => style.setProperty("--banner", `${element.offsetHeight}px`));
    observer.observe(element);
    return () => {
      observer.disconnect();
      style.removeProperty("--banner");
    };
  }, [element]);
  return setElement;
}
