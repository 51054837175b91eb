import { Link } from "react-router";
import type { CameraState, LineState } from "../../api/types";
import { LightPill } from "../../components/StackLight";
import { useI18n } from "../../i18n";
import { lineOf, linePath, shownLight } from "../../lines/state";
import { useLive } from "../../live/hooks";
import { CameraTile } from "./CameraTile";
import { behindMs, FAR_BEHIND_MS } from "./lag";
import styles from "./LineSection.module.css";

interface Props {
  line: LineState;
  nowMs: number;
  staleS: number;
  /** So few cameras that each can be large. */
  roomy: boolean;
  heading: boolean;
}

export function LineSection({ line, nowMs, staleS, roomy, heading }: Props) {
  const { t, format } = useI18n();
  const { passed, failed, reviewed, frames_per_s: rate } = line.figures;
  const total = passed + failed + reviewed;
  const newest = Math.max(0, ...line.cameras.map((camera) => camera.latest[0]?.decided_at_ms ?? 0));
  const lagMs = behindMs(line.cameras, nowMs, staleS);
  return (
    <section aria-label={t("line.heading", { line: line.line_id })}>
      {heading && (
        <div className={styles["head"]}>
          <h2>{line.line_id}</h2>
          <WallLight lineId={line.line_id} />
          <span>{t("line.rate", { rate: format.rate(rate) })}</span>
          {total > 0 && <span>{t("line.defects", { share: format.percent(failed / total) })}</span>}
          {lagMs !== null && (
            <span data-far={lagMs >= FAR_BEHIND_MS} title={t("line.behind.means")}>
              {t("line.behind", { lag: format.milliseconds(lagMs) })}
            </span>
          )}
          {newest > 0 && <span>{t("line.lag", { age: format.age((nowMs - newest) / 1000) })}</span>}
        </div>
      )}
      <div className={styles["cameras"]} data-roomy={roomy}>
        {line.cameras.map((camera) => (
          <CameraTile key={camera.camera_id} camera={camera} silentS={silence(camera, nowMs, staleS)} roomy={roomy} />
        ))}
      </div>
    </section>
  );
}

/** The line's light, small; leads to the line. Nothing where the outcome service does not speak for it. */
function WallLight({ lineId }: { lineId: string }) {
  const { lines, phase } = useLive();
  const line = lineOf(lines, lineId);
  if (line === null) return null;
  return (
    <Link className={styles["light"]} to={linePath(lineId)} data-testid={`wall-light-${lineId}`}>
      <LightPill lineId={lineId} light={shownLight(lines, line, phase === "lost")} />
    </Link>
  );
}

/** For how many whole seconds a camera has been silent; 0 while it is not stale, so that its tile need not be redrawn. */
function silence(camera: CameraState, nowMs: number, staleS: number): number {
  const newest = camera.latest[0];
  const ageS = newest ? (nowMs - newest.decided_at_ms) / 1000 : 0;
  return ageS > staleS ? Math.floor(ageS) : 0;
}
