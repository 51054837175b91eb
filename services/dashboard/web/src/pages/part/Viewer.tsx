import { useCallback, useEffect, useRef, useState, type PointerEvent } from "react";
import { imageUrl, thumbnailUrl } from "../../api/client";
import type { Inspection } from "../../api/types";
import { IconButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { PictureNote, usePictureProblem } from "../../components/Picture";
import { useI18n } from "../../i18n";
import { MapLegend } from "./MapLegend";
import { methodName } from "./mapWords";
import type { ShownMap } from "./maps";
import styles from "./Viewer.module.css";
import { FIT, moved, zoomAt, type View } from "./zoom";

const STEP = 1.4;

interface Props {
  inspection: Inspection;
  /** What lies over the picture. */
  map: ShownMap | null;
  /** How strongly it does, 0 to 1. */
  opacity: number;
}

/** The picture, large: wheel, pinch, drag, double click, buttons and the keys + − 0. Its map zooms with it. */
export function Viewer({ inspection, map, opacity }: Props) {
  const { t, format } = useI18n();
  const [pane, setPane] = useState<HTMLDivElement | null>(null);
  // Zoom and place stay from part to part: who looks at one spot wants to see it on the next part too.
  const [view, setView] = useState<View>(FIT);
  const [brokenUrl, setBrokenUrl] = useState<string | null>(null);
  const zoom = useCallback(
    (factor: number, at?: { clientX: number; clientY: number }) => {
      if (!pane) return;
      const box = pane.getBoundingClientRect();
      const atX = at ? at.clientX - box.left : box.width / 2;
      const atY = at ? at.clientY - box.top : box.height / 2;
      setView((now) => zoomAt(now, factor, atX, atY, box.width, box.height));
    },
    [pane],
  );
  useWheel(pane, zoom);
  useZoomKeys(zoom, () => setView(FIT));
  const drag = useDrag(pane, setView, zoom);
  return (
    <div className={styles["viewer"]} role="group" aria-label={t("viewer.label")}>
      {/* Pointers are a shortcut here: the buttons beside it and the keys do the same. */}
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions */}
      <div ref={setPane} className={styles["pane"]} data-zoomed={view.scale > 1} data-close={view.scale >= 6}
        data-testid="viewer-pane" {...drag} onDoubleClick={(event) => (view.scale > 1 ? setView(FIT) : zoom(3, event))}>
        <FullPicture key={inspection.frame_id} inspection={inspection} view={view} map={map} opacity={opacity}
          onMapBroken={setBrokenUrl} />
      </div>
      {map && <MapLegend explanation={map.explanation} broken={brokenUrl === map.url} />}
      <div className={styles["tools"]}>
        <button type="button" className={IconButtonLook} aria-label={t("viewer.zoom_out")} onClick={() => zoom(1 / STEP)}>
          <Icon name="minus" />
        </button>
        <span className={styles["percent"]} aria-live="polite" aria-label={t("viewer.zoom", { percent: format.percent(view.scale) })}>
          ×{format.rate(view.scale)}
        </span>
        <button type="button" className={IconButtonLook} aria-label={t("viewer.zoom_in")} onClick={() => zoom(STEP)}>
          <Icon name="plus" />
        </button>
        <button type="button" className={IconButtonLook} aria-label={t("viewer.fit")} onClick={() => setView(FIT)}>
          <Icon name="fit" />
        </button>
      </div>
    </div>
  );
}

type FullPictureProps = Props & { view: View; onMapBroken: (url: string) => void };

function FullPicture({ inspection, view, map, opacity, onMapBroken }: FullPictureProps) {
  const { t } = useI18n();
  const url = imageUrl(inspection.frame_id);
  const [failed, setFailed] = useState(false);
  // Width by height, known once the picture is there.
  const [aspect, setAspect] = useState<number | null>(null);
  const ready = aspect !== null;
  const [attempt, setAttempt] = useState(0);
  const [back] = useState(() => () => {
    setFailed(false);
    setAttempt((count) => count + 1);
  });
  const problem = usePictureProblem(url, failed, back);
  const transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  const alt = t("picture.alt", { part: inspection.part_id, camera: inspection.camera_id });
  if (failed) return <div className={styles["note"]}>{problem && <PictureNote problem={problem} detail={inspection.detail} />}</div>;
  // The thumbnail stands in until the whole picture is there: the browser mostly has it already.
  return (
    <>
      <img key={attempt} src={url} alt={alt} style={{ transform, position: "absolute", inset: 0, opacity: ready ? 1 : 0 }}
        draggable={false} data-testid="full-picture" onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setAspect(naturalWidth / naturalHeight)} onError={() => setFailed(true)} />
      {!ready && <img src={thumbnailUrl(inspection.frame_id, 640)} alt="" style={{ transform }} draggable={false} />}
      {ready && map && (
        // Exactly where the picture is: a map is rounded to few places and has not quite the picture's own aspect.
        <div className={styles["over"]} style={{ transform, opacity }}>
          <img src={map.url} alt={t("map.alt", { method: methodName(map.explanation.method, t) })} draggable={false}
            data-testid="map" style={{ aspectRatio: aspect, width: `min(100cqw, ${100 * aspect}cqh)` }}
            onError={() => onMapBroken(map.url)} />
        </div>
      )}
    </>
  );
}

type Zoom = (factor: number, at?: { clientX: number; clientY: number }) => void;

function useWheel(pane: HTMLDivElement | null, zoom: Zoom): void {
  useEffect(() => {
    if (!pane) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode === 0 ? 0.0016 : 0.05)), event);
    };
    // React listens passively, and the page would scroll with the picture.
    pane.addEventListener("wheel", onWheel, { passive: false });
    return () => pane.removeEventListener("wheel", onWheel);
  }, [pane, zoom]);
}

function useZoomKeys(zoom: Zoom, fit: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "=") zoom(STEP);
      else if (event.key === "-") zoom(1 / STEP);
      else if (event.key === "0") fit();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

/** One pointer moves the picture, two pinch it. */
function useDrag(pane: HTMLDivElement | null, setView: (change: (view: View) => View) => void, zoom: Zoom) {
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const onPointerMove = (event: PointerEvent) => {
    const before = pointers.current.get(event.pointerId);
    if (!before || !pane) return;
    const now = { x: event.clientX, y: event.clientY };
    const others = [...pointers.current].filter(([id]) => id !== event.pointerId);
    const other = others[0]?.[1];
    pointers.current.set(event.pointerId, now);
    if (other) {
      const length = (spot: { x: number; y: number }) => Math.hypot(spot.x - other.x, spot.y - other.y) || 1;
      zoom(length(now) / length(before), { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
    } else {
      setView((view) => moved(view, now.x - before.x, now.y - before.y, pane.clientWidth, pane.clientHeight));
    }
  };
  const release = (event: PointerEvent) => pointers.current.delete(event.pointerId);
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      pane?.setPointerCapture(event.pointerId);
      pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    },
    onPointerMove,
    onPointerUp: release,
    onPointerCancel: release,
  };
}
