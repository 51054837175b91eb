import { useCallback, useRef, useState } from "react";
import { Link } from "react-router";
import { caseImageUrl, caseThumbnailUrl } from "../../api/client";
import type { QueuedCase } from "../../api/types";
import { MapBar } from "../../components/MapBar";
import { useMapChoice } from "../../components/useMapChoice";
import { Viewer, type ViewedPicture } from "../../components/Viewer";
import { useI18n } from "../../i18n";
import { canSay, settledBy, wantsCorrection, type Said } from "../../review/answers";
import { useReviewStation, useStation } from "../../review/hooks";
import { AnswerBar } from "./AnswerBar";
import { CasePanel } from "./CasePanel";
import { CorrectionPanel } from "./CorrectionPanel";
import { DrawLayer } from "./DrawLayer";
import { DrawTools } from "./DrawTools";
import { LightPanel, useLight } from "./Light";
import { BecausePanel, NeighboursPanel } from "./NeighboursPanel";
import { RefusedList } from "./RefusedList";
import styles from "./Sitting.module.css";
import { StatusLine } from "./StatusLine";
import { useAskFirst } from "./useAskFirst";
import { useCorrection } from "./useCorrection";
import { useDrawing } from "./useDrawing";
import { useReviewKeys } from "./useReviewKeys";

/** Two presses closer together are one press of a stiff glove. */
const BOUNCE_MS = 200;

interface Props {
  one: QueuedCase;
  /** Keys are for the case, not for what lies over the page. */
  listening: boolean;
  onAnswers: () => void;
}

/** One case on screen: the picture, what the model says, and the answers. */
export function Sitting({ one, listening, onAnswers }: Props) {
  const { t } = useI18n();
  const station = useReviewStation();
  const state = useStation();
  const { case_id: caseId, inspection } = one;
  const { verdict } = inspection;
  const loaded = state.loaded?.detail.case.case_id === caseId ? state.loaded : null;
  const maps = useMapChoice(loaded?.maps ?? [], verdict);
  const [off, setOff] = useState(false);
  const light = useLight();
  const [comparing, setComparing] = useState(false);
  const [askFirst, setAskFirst] = useAskFirst();
  const correction = useCorrection(one);
  const drawing = useDrawing(one, correction);
  const url = caseImageUrl(caseId);
  const painted = useRef({ caseId: "", atMs: 0 });
  const seenMethod = useSeen(caseId, loaded !== null && !off ? (maps.shown?.explanation.method ?? null) : null);
  const mapSeen = seenMethod !== "";

  const mayAnswer = (said: Said): boolean => {
    if (said === "unsure") return true;
    // Nobody can see a picture that no program can read; the part itself may lie before the person.
    if (inspection.reason === "unreadable_image") return true;
    if (painted.current.caseId !== caseId) {
      station.say({ kind: "no_picture" });
      return false;
    }
    if (performance.now() - painted.current.atMs < BOUNCE_MS) return false;
    if (canSay(said, mapSeen)) return true;
    station.say({ kind: "no_map" });
    return false;
  };
  const say = (said: Said) => {
    if (!mayAnswer(said)) return;
    if (askFirst && wantsCorrection(said, verdict)) correction.begin(said);
    else station.answer(said, seenMethod);
  };
  const send = () => {
    if (!correction.draft) return;
    const { image } = one;
    station.answer(correction.draft.said, seenMethod, { draft: correction.draft, width: image.width, height: image.height });
    correction.close();
  };
  useReviewKeys({
    listening,
    correcting: correction.open,
    say,
    send,
    back: correction.back,
    name: (number) => {
      const name = correction.classes[number];
      if (name !== undefined) correction.name(name);
    },
    toggleMap: () => setOff(!off),
    drawing,
    onAnswers,
    onCompare: () => setComparing(!comparing),
  });
  const onReady = useCallback(() => {
    painted.current = { caseId, atMs: performance.now() };
  }, [caseId]);
  const picture: ViewedPicture = {
    url,
    thumbnailUrl: caseThumbnailUrl(caseId, 640),
    alt: t("picture.alt", { part: inspection.part_id, camera: inspection.camera_id }),
    detail: inspection.detail,
    aspect: one.image.height > 0 ? one.image.width / one.image.height : null,
    preloaded: loaded?.decoded ?? false,
  };
  const settled = correction.draft ? settledBy(correction.draft.said, verdict) : null;
  const canDraw = correction.open && settled === "fail" && one.image.width > 0;
  const because = state.because.get(caseId) ?? null;
  const opacity = off || maps.hidden ? 0 : maps.opacity;
  return (
    <div className={styles["page"]} data-correcting={correction.open} data-case={caseId} data-testid="sitting">
      <div className={styles["viewer"]}>
        <Viewer key={caseId} picture={picture} map={maps.shown} opacity={opacity} fitKey="f" filter={light.filter}
          pen={canDraw ? drawing.pen : null} onReady={onReady}
          layer={canDraw || drawing.strokes.length > 0 ? <DrawLayer drawing={drawing} active={canDraw} /> : undefined} />
      </div>
      <div className={styles["bar"]}>
        {correction.open ? <DrawTools drawing={drawing} correction={correction} disabled={!canDraw} /> : <MapBar maps={maps} oneRow />}
      </div>
      <aside className={styles["side"]}>
        {correction.open ? (
          <CorrectionPanel correction={correction} />
        ) : (
          <CasePanel one={one} loaded={loaded} focus={maps.shown?.explanation ?? null} off={off} problem={state.caseProblem} />
        )}
        {!correction.open && because && <BecausePanel because={because} />}
        {!correction.open && <NeighboursPanel key={caseId} caseId={caseId} open={comparing} onToggle={() => setComparing(!comparing)} />}
        <LightPanel light={light} />
        <RefusedList />
        {!correction.open && (
          <footer className={styles["foot"]}>
            <p className={styles["keys"]}>{t("review.keys")}</p>
            <label>
              <input type="checkbox" checked={askFirst} onChange={(event) => setAskFirst(event.target.checked)} />
              {t("review.ask_first")}
            </label>
            <Link to={`/parts/${inspection.frame_id}`}>{t("review.to_part")}</Link>
          </footer>
        )}
      </aside>
      <div className={styles["status"]}>
        <StatusLine correcting={correction.open} />
      </div>
      <AnswerBar verdict={verdict} mapSeen={mapSeen} correcting={correction.open ? correction.draft : null}
        onSay={say} onSend={send} onBack={correction.back} />
    </div>
  );
}

/** The method of the map that has been on screen last while this case was; empty where none was. */
function useSeen(caseId: string, method: string | null): string {
  const [seen, setSeen] = useState({ caseId: "", method: "" });
  if (method !== null && (seen.caseId !== caseId || seen.method !== method)) setSeen({ caseId, method });
  return seen.caseId === caseId ? seen.method : "";
}
