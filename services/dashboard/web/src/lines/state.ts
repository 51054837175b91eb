import type { Alarm, Handshake, Light, LineNow, LinesNow, Outcome, PartAnswers } from "../api/lines";

/** An alarm with the line that it is of. */
export interface StandingAlarm {
  lineId: string;
  alarm: Alarm;
}

/** Alarms of all lines that nobody has acknowledged: red before amber, then the newest first. */
export function standingAlarms(lines: LinesNow | null): StandingAlarm[] {
  const found = (lines?.lines ?? []).flatMap((line) => line.alarms.map((alarm) => ({ lineId: line.line_id, alarm })));
  return found.sort(
    (a, b) => gravity(b.alarm.light) - gravity(a.alarm.light) || b.alarm.raised_at_ms - a.alarm.raised_at_ms,
  );
}

/** Lines whose light is red although no alarm says why: nobody can acknowledge that away. */
export function redLines(lines: LinesNow | null): LineNow[] {
  return (lines?.lines ?? []).filter((line) => line.causes.some((cause) => cause.light === "red" && cause.token !== "alarm"));
}

export function gravity(light: Light | null): number {
  return light === "red" ? 2 : light === "amber" ? 1 : 0;
}

export function lineOf(lines: LinesNow | null, lineId: string): LineNow | null {
  return lines?.lines.find((line) => line.line_id === lineId) ?? null;
}

/** The light as it may be shown: one that is not known any more is none. */
export function shownLight(lines: LinesNow | null, line: LineNow | null, isLost: boolean): Light | null {
  return lines === null || lines.away !== null || isLost ? null : (line?.light ?? null);
}

/** Where the pages of the lines begin: at the only line, or at the list of them. */
export function linesPath(lines: LinesNow): string {
  const [first, ...others] = lines.lines;
  return first && others.length === 0 ? linePath(first.line_id) : "/lines";
}

export function linePath(lineId: string): string {
  return `/line/${encodeURIComponent(lineId)}`;
}

export const STEPS = ["ready", "busy", "result", "acknowledge"] as const;
export type Step = (typeof STEPS)[number];

/** The step of the handshake that is lit; null at the safe level. */
export function stepOf(handshake: Handshake): Step | null {
  if (handshake === "safe") return null;
  return handshake === "releasing" ? "acknowledge" : handshake;
}

/** The answer that the line got: the first one. */
export function firstOf(part: PartAnswers): Outcome {
  const first = part.revisions[0];
  if (!first) throw new Error("a part must have at least one revision");
  return first;
}

/** The answer that stands: the last one. */
export function lastOf(part: PartAnswers): Outcome {
  return part.revisions.at(-1) ?? firstOf(part);
}

/** Whether a part came out otherwise than the line was told. */
export function isCorrected(part: PartAnswers): boolean {
  return lastOf(part).verdict !== (part.answered?.verdict ?? firstOf(part).verdict);
}

/** Alarms that were not there before; what stood when one began to look is new as well. */
export function newAlarms(before: ReadonlySet<string>, now: readonly StandingAlarm[]): StandingAlarm[] {
  return now.filter(({ alarm }) => !before.has(alarm.alarm_id));
}
