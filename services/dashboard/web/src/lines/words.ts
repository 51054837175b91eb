import type { Alarm, Counted, LightCause, LineConnection, LineEvent, Outcome } from "../api/lines";
import type { Problem } from "../api/types";
import { hasMessage, type Translate } from "../i18n";
import type { Formats } from "../i18n/format";

/** Why a light is not green, in plain words; a cause that this release does not know is told as the service tells it. */
export function causeText(cause: LightCause, alarms: readonly Alarm[], t: Translate): string {
  if (cause.token === "alarm") {
    const alarm = alarms.find((one) => one.alarm_id === cause.about);
    return alarm ? alarmText(alarm, t) : cause.text;
  }
  if (cause.token === "reference") return t(cause.light === "red" ? "line.cause.reference.failed" : "line.cause.reference.due");
  const key = `line.cause.${cause.token}`;
  if (!hasMessage(key) || (cause.about === "" && cause.token !== "no_outcomes")) return cause.text;
  return t(key, { about: cause.about });
}

/** What an alarm says, in the page's language; where its numbers are not known, it is told as the service tells it. */
export function alarmText(alarm: Alarm, t: Translate): string {
  const parts = partsText(alarm, t);
  const did = didText(alarm.counted, t);
  if (parts === null || did === null) return alarm.text;
  const { product, window_s, defect_class, camera_id } = alarm;
  return [
    parts,
    product && t("line.alarm.product", { product }),
    did,
    window_s > 0 && t("line.alarm.within", { window: windowText(window_s) }),
    defect_class && t("line.alarm.defect", { defect: defect_class }),
    camera_id && t("line.alarm.camera", { camera: camera_id }),
  ].filter(Boolean).join(" ");
}

function partsText({ kind, count, of }: Alarm, t: Translate): string | null {
  if (count < 1) return null;
  if (kind === "in_a_row") return count === 1 ? t("line.alarm.single") : t("line.alarm.row", { count });
  if (of < 1) return null;
  if (kind === "of_last") return t("line.alarm.last", { count, of });
  return kind === "rate" ? t("line.alarm.rate", { count, of }) : null;
}

/** As the sentence names them, whatever order they come in. */
const COUNTED = ["fail", "review", "late", "pass"] as const satisfies readonly Counted[];

function didText(counted: readonly Counted[], t: Translate): string | null {
  if (counted.length === 0) return null;
  if (counted.length === 2 && counted.includes("fail") && counted.includes("review")) return t("line.alarm.did.not_passed");
  return COUNTED.filter((one) => counted.includes(one)).map((one) => t(`line.alarm.did.${one}`)).join(t("line.alarm.or"));
}

function windowText(seconds: number): string {
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}

/** What is wrong with what the PLC asked for; null where nothing is. */
export function errorText(code: number, t: Translate): string | null {
  if (code === 0) return null;
  const key = `line.error.${code}`;
  return hasMessage(key) ? t(key) : t("line.error.unknown", { code });
}

/** Whether the answer was there before the line needed it. */
export function timeText(outcome: Outcome, t: Translate, format: Formats): string {
  if (outcome.spare_ms === null) return t("line.no_deadline");
  if (outcome.in_time) return t("line.in_time", { spare: format.milliseconds(Math.max(0, outcome.spare_ms)) });
  // Answered at the deadline because views were missing: not later than that, and yet without them.
  const lateMs = Math.max(0, -outcome.spare_ms);
  return lateMs < 1 ? t("line.late.at_deadline") : t("line.late", { late: format.milliseconds(lateMs) });
}

/** Why an answer is not simply what its views say; null where it is. */
export function reasonText(outcome: Outcome, t: Translate): string | null {
  return outcome.reason === "views" ? null : t(`line.reason.${outcome.reason}`);
}

/** What a connection is, for people. */
export function kindText(connection: LineConnection, t: Translate): string {
  const key = `line.kind.${connection.kind}`;
  return hasMessage(key) ? t(key) : connection.kind;
}

/** What happened, in words. */
export function eventText(event: LineEvent, t: Translate): string {
  const key = `line.event.${event.kind}`;
  return hasMessage(key) ? t(key) : event.kind;
}

/** Why something that a person asked for was not done. */
export function problemText(problem: Problem, t: Translate): string {
  const key = `line.problem.${problem.reason}`;
  return hasMessage(key) ? t(key) : problem.message;
}
