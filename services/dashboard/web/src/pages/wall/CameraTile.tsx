import { memo } from "react";
import { Link } from "react-router";
import { thumbnailUrl } from "../../api/client";
import type { CameraState, Inspection } from "../../api/types";
import { Icon } from "../../components/Icon";
import { Picture } from "../../components/Picture";
import { ScoreBar } from "../../components/ScoreBar";
import { VerdictBadge } from "../../components/VerdictBadge";
import { useI18n } from "../../i18n";
import styles from "./CameraTile.module.css";
import { PartStrip } from "./PartStrip";
import { useSteadyPart } from "./steady";

interface Props {
  camera: CameraState;
  /** Seconds without a verdict, once they are too many; else 0. */
  silentS: number;
  roomy: boolean;
}

/** One camera: its newest part large, how it was judged, and what came before. */
export const CameraTile = memo(function CameraTile({ camera, silentS, roomy }: Props) {
  const { t, format } = useI18n();
  const newest = camera.latest[0];
  const part = useSteadyPart(newest, 640);
  const { passed, failed, reviewed, frames_per_s: rate } = camera.figures;
  const total = passed + failed + reviewed;
  const stale = silentS > 0;
  return (
    <article className={styles["tile"]} data-stale={stale} data-roomy={roomy} aria-label={camera.camera_id}>
      <div className={styles["inside"]}>
        {part ? <Stage part={part} silentS={silentS} /> : <div className={styles["empty"]}>{t("camera.no_part")}</div>}
        <div className={styles["body"]}>
          <div className={styles["head"]}>
            <h3>{camera.camera_id}</h3>
            <span>
              {t("line.rate", { rate: format.rate(rate) })}
              {total > 0 && ` · ${t("line.defects", { share: format.percent(failed / total) })}`}
            </span>
          </div>
          {part && <Judgement part={part} />}
        </div>
        <div className={styles["strips"]}>
            <div className={styles["strip"]}>
              <PartStrip title={t("camera.latest")} parts={camera.latest.slice(0, 20)} rows={roomy ? 3 : 1} />
            </div>
            <div className={styles["strip"]}>
              <PartStrip title={t("camera.flagged")} parts={camera.flagged} rows={1} none={t("camera.flagged.none")} />
            </div>
        </div>
      </div>
    </article>
  );
});

function Stage({ part, silentS }: { part: Inspection; silentS: number }) {
  const { t, format } = useI18n();
  const url = thumbnailUrl(part.frame_id, 640);
  const label = t("thumb.open", {
    verdict: t(`verdict.${part.verdict}`),
    part: part.part_id,
    time: format.clock(part.captured_at_ms),
  });
  const stale = silentS > 0 ? t("camera.stale", { age: format.age(silentS) }) : null;
  return (
    <Link className={styles["stage"]} to={`/parts/${part.frame_id}`} aria-label={stale === null ? label : `${label}. ${stale}`} data-testid="stage">
      <div className={styles["picture"]}>
        <Picture key={url} url={url} alt="" detail={part.detail} />
      </div>
      <div className={styles["edge"]} data-verdict={part.verdict} />
      <div className={styles["badge"]}>
        <VerdictBadge verdict={part.verdict} />
      </div>
      {stale !== null && (
        <div className={styles["stale"]}>
          <Icon name="clock" size={18} />
          {stale}
        </div>
      )}
    </Link>
  );
}

function Judgement({ part }: { part: Inspection }) {
  const { t, format } = useI18n();
  return (
    <>
      <div>
        <div className={styles["score"]}>
          <strong>{part.score === null ? t("score.none") : format.score(part.score)}</strong>
          <span>
            {part.score === null
              ? part.detail
              : part.review_high !== null && t("score.from", { value: format.score(part.review_high) })}
          </span>
        </div>
        <ScoreBar part={part} />
      </div>
      <div className={styles["facts"]}>
        <span>
          {t("camera.part")} <b>{part.part_id}</b>
        </span>
        <span>
          {t("camera.model")} <b>{modelName(part, t)}</b>
        </span>
        <span>
          {t("camera.latency")} <b>{part.total_ms === null ? "–" : format.milliseconds(part.total_ms)}</b>
          {part.cycle_time_ms > 0 && ", "}
          {part.cycle_time_ms > 0 && (part.in_time ? t("camera.in_time") : <span className={styles["late"]}>{t("camera.late")}</span>)}
        </span>
      </div>
    </>
  );
}

function modelName(part: Inspection, t: ReturnType<typeof useI18n>["t"]): string {
  if (part.model_version === 0) return t("model.none");
  return t("model.version", { alias: part.alias, version: part.model_version });
}
