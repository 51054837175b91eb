import type { Alarm, LightCause, LineConnection, LineEvent, Outcome } from "../api/lines";
import type { Problem } from "../api/types";
import { hasMessage, type MessageKey, type Translate } from "../i18n";
import type { Formats } from "../i18n/format";

/** Why a light is not green, in plain words; a cause that this release does not know is told as the service tells it. */
export function causeText(cause: LightCause, alarms: readonly Alarm[], t: Translate): string {
  if (cause.token === "alarm") {
    const alarm = alarms.find((one) => one.alarm_id === cause.about);
    return alarmText(alarm?.text ?? cause.text, t);
  }
  if (cause.token === "reference") return t(cause.light === "red" ? "line.cause.reference.failed" : "line.cause.reference.due");
  const key = `line.cause.${cause.token}`;
  if (!hasMessage(key) || (cause.about === "" && cause.token !== "no_outcomes")) return cause.text;
  return t(key, { about: cause.about });
}

const ALARM =
  /^(?:(?<row>\d+) parts in a row|(?<single>1) part|(?<last>\d+) of the last (?<ofLast>\d+) parts|(?<rate>\d+) of (?<ofRate>\d+) parts)(?: of product (?<product>\S+))? (?<did>did not pass|(?:failed|were for review|were answered late|passed)(?: or (?:failed|were for review|were answered late|passed))*)(?: within (?<window>\d+ (?:min|s)))?(?: with (?<defect>.+?))?(?: at camera (?<camera>\S+))?$/;

/** What an alarm says, in the page's language; what this release does not know is told as the service tells it. */
export function alarmText(text: string, t: Translate): string {
  const found = ALARM.exec(text)?.groups;
  if (!found) return text;
  const { row, single, last, ofLast, rate, ofRate, product, did = "", window, defect, camera } = found;
  const parts =
    row !== undefined ? t("line.alarm.row", { count: row })
    : single !== undefined ? t("line.alarm.single")
    : last !== undefined ? t("line.alarm.last", { count: last, of: ofLast ?? "" })
    : t("line.alarm.rate", { count: rate ?? "", of: ofRate ?? "" });
  const said = did.split(" or ").map((one) => t(DID[one] ?? "line.alarm.did.not_passed")).join(t("line.alarm.or"));
  const more = [
    product === undefined ? "" : t("line.alarm.product", { product }),
    said,
    window === undefined ? "" : t("line.alarm.within", { window }),
    defect === undefined ? "" : t("line.alarm.defect", { defect }),
    camera === undefined ? "" : t("line.alarm.camera", { camera }),
  ];
  return [parts, ...more.filter((one) => one !== "")].join(" ");
}

const DID: Record<string, MessageKey> = {
  "did not pass": "line.alarm.did.not_passed",
  failed: "line.alarm.did.fail",
  "were for review": "line.alarm.did.review",
  passed: "line.alarm.did.pass",
  "were answered late": "line.alarm.did.late",
};

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
