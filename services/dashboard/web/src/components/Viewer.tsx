import { useCallback, useEffect, useRef, useState, type PointerEvent, type ReactNode } from "react";
import { useI18n } from "../i18n";
import { IconButtonLook } from "./Button";
import { Icon } from "./Icon";
import { MapLegend } from "./MapLegend";
import { methodName } from "./mapWords";
import type { ShownMap } from "./maps";
import { PictureNote, usePictureProblem } from "./Picture";
import { isTyping } from "./useMapChoice";
import styles from "./Viewer.module.css";
import { FIT, moved, zoomAt, type View } from "./zoom";

const STEP = 1.4;

/** What is looked at. */
export interface ViewedPicture {
  url: string;
  /** A small one that stands in until the whole picture is there. */
  thumbnailUrl: string;
  alt: string;
  /** What is known of a picture that no model could read. */
  detail: string;
  /** Width by height, where it is known before the picture has come. */
  aspect: number | null;
  /** It is decoded already: it shows at once, without anything in its stead. */
  preloaded?: boolean;
}

/** A place in shares of the picture's width and height. */
export interface Spot {
  x: number;
  y: number;
}

/** What draws on the picture with one pointer; two fingers, and the middle button, still move it. */
export interface Pen {
  down: (spot: Spot, event: PointerEvent) => void;
  move: (spots: Spot[]) => void;
  up: () => void;
  /** A second finger came: what the first one did was no stroke. */
  cancel: () => void;
  /** The pointer is over the picture without drawing; null once it has left. */
  hover: (spot: Spot | null) => void;
}

interface Props {
  picture: ViewedPicture;
  /** What lies over the picture. */
  map: ShownMap | null;
  /** How strongly it does, 0 to 1. */
  opacity: number;
  /** The key that shows the whole picture again. */
  fitKey?: string;
  /** A CSS filter for the picture alone. */
  filter?: string;
  pen?: Pen | null;
  /** Drawn exactly over the picture, and as large. */
  layer?: ReactNode;
  onReady?: (url: string) => void;
}

/** The picture, large: wheel, pinch, drag, double click, buttons and keys. Its map zooms with it. */
export function Viewer({ picture, map, opacity, fitKey = "0", filter, pen = null, layer, onReady }: Props) {
  const { t, format } = useI18n();
  const [pane, setPane] = useState<HTMLDivElement | null>(null);
  const sheet = useRef<HTMLDivElement>(null);
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
  useNoFling(pane);
  useZoomKeys(zoom, fitKey, () => setView(FIT));
  const spotAt = useCallback(({ clientX, clientY }: { clientX: number; clientY: number }): Spot | null => {
    const box = sheet.current?.getBoundingClientRect();
    if (!box || box.width === 0 || box.height === 0) return null;
    return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
  }, []);
  const drag = useDrag(pane, setView, zoom, pen, spotAt);
  const onDoubleClick = pen ? undefined : (event: React.MouseEvent) => (view.scale > 1 ? setView(FIT) : zoom(3, event));
  return (
    <div className={styles["viewer"]} role="group" aria-label={t("viewer.label")}>
      {/* Pointers are a shortcut here: the buttons beside it and the keys do the same. */}
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions */}
      <div ref={setPane} className={styles["pane"]} data-zoomed={view.scale > 1} data-close={view.scale >= 6} data-pen={pen !== null}
        data-testid="viewer-pane" {...drag} onDoubleClick={onDoubleClick}>
        <FullPicture key={picture.url} picture={picture} view={view} map={map} opacity={opacity} filter={filter}
          sheet={sheet} layer={layer} onReady={onReady} onMapBroken={setBrokenUrl} />
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

interface FullPictureProps {
  picture: ViewedPicture;
  view: View;
  map: ShownMap | null;
  opacity: number;
  filter: string | undefined;
  sheet: React.RefObject<HTMLDivElement | null>;
  layer: ReactNode;
  onReady: ((url: string) => void) | undefined;
  onMapBroken: (url: string) => void;
}

function FullPicture({ picture, view, map, opacity, filter, sheet, layer, onReady, onMapBroken }: FullPictureProps) {
  const { t } = useI18n();
  const { url, alt } = picture;
  const [failed, setFailed] = useState(false);
  const [ready, setReady] = useState(picture.preloaded ?? false);
  // Width by height; what the picture itself says comes before what was said of it.
  const [ownAspect, setOwnAspect] = useState<number | null>(null);
  const aspect = ownAspect ?? picture.aspect;
  const [attempt, setAttempt] = useState(0);
  const [back] = useState(() => () => {
    setFailed(false);
    setAttempt((count) => count + 1);
  });
  const problem = usePictureProblem(url, failed, back);
  const transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  if (failed) return <div className={styles["note"]}>{problem && <PictureNote problem={problem} detail={picture.detail} />}</div>;
  const onLoad = ({ naturalWidth, naturalHeight }: HTMLImageElement) => {
    setOwnAspect(naturalWidth / naturalHeight);
    setReady(true);
    onReady?.(url);
  };
  const place = aspect === null ? null : { aspectRatio: aspect, width: `min(100cqw, ${100 * aspect}cqh)` };
  // The thumbnail stands in until the whole picture is there: the browser mostly has it already.
  return (
    <>
      <img key={attempt} src={url} alt={alt} style={{ transform, filter, position: "absolute", inset: 0, opacity: ready ? 1 : 0 }}
        draggable={false} data-testid="full-picture" onLoad={(event) => onLoad(event.currentTarget)} onError={() => setFailed(true)} />
      {!ready && <img src={picture.thumbnailUrl} alt="" style={{ transform, filter }} draggable={false} />}
      {ready && place && map && (
        // Exactly where the picture is: a map is rounded to few places and has not quite the picture's own aspect.
        <div className={styles["over"]} style={{ transform, opacity }}>
          <img src={map.url} alt={t("map.alt", { method: methodName(map.explanation.method, t) })} draggable={false}
            data-testid="map" style={place} onError={() => onMapBroken(map.url)} />
        </div>
      )}
      {place && layer !== undefined && (
        <div className={styles["over"]} style={{ transform }}>
          <div ref={sheet} className={styles["sheet"]} style={place}>
            {layer}
          </div>
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

/** Without this the browser takes a quick stroke for a fling, and swallows the next tap, wherever that is, to stop it. */
function useNoFling(pane: HTMLDivElement | null): void {
  useEffect(() => {
    if (!pane) return;
    const onMove = (event: TouchEvent) => event.cancelable && event.preventDefault();
    pane.addEventListener("touchmove", onMove, { passive: false });
    return () => pane.removeEventListener("touchmove", onMove);
  }, [pane]);
}

function useZoomKeys(zoom: Zoom, fitKey: string, fit: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
      if (event.key === "+" || event.key === "=") zoom(STEP);
      else if (event.key === "-") zoom(1 / STEP);
      else if (event.key === fitKey) fit();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

/** One pointer moves the picture, or draws with the pen; two pinch and move it. */
function useDrag(
  pane: HTMLDivElement | null,
  setView: (change: (view: View) => View) => void,
  zoom: Zoom,
  pen: Pen | null,
  spotAt: (at: { clientX: number; clientY: number }) => Spot | null,
) {
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const drawing = useRef<{ id: number; type: string } | null>(null);
  const onPointerMove = (event: PointerEvent) => {
    if (drawing.current?.id === event.pointerId) {
      // A fast hand moves further between two frames than a brush is wide.
      const native = event.nativeEvent;
      const between = native.getCoalescedEvents?.() ?? [];
      const spots = (between.length > 0 ? between : [native]).map(spotAt).filter((spot) => spot !== null);
      pen?.move(spots);
      return;
    }
    const before = pointers.current.get(event.pointerId);
    if (!before || !pane) {
      pen?.hover(spotAt(event));
      return;
    }
    const now = { x: event.clientX, y: event.clientY };
    const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
    pointers.current.set(event.pointerId, now);
    // Of two fingers each carries the picture half of its way.
    const share = other ? 0.5 : 1;
    if (other) {
      const length = (spot: { x: number; y: number }) => Math.hypot(spot.x - other.x, spot.y - other.y) || 1;
      zoom(length(now) / length(before), { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
    }
    const [byX, byY] = [(now.x - before.x) * share, (now.y - before.y) * share];
    setView((view) => moved(view, byX, byY, pane.clientWidth, pane.clientHeight));
  };
  const release = (event: PointerEvent) => {
    pointers.current.delete(event.pointerId);
    if (drawing.current?.id !== event.pointerId) return;
    drawing.current = null;
    if (event.type === "pointercancel") pen?.cancel();
    else pen?.up();
  };
  return {
    onPointerDown: (event: PointerEvent) => {
      const draws = pen !== null && event.button === 0;
      if (!draws && event.button !== 0 && !(pen !== null && event.button === 1)) return;
      // A palm on the glass is no second finger while a pen draws.
      if (drawing.current !== null && drawing.current.type !== "touch") return;
      if (event.button === 1) event.preventDefault();
      pane?.setPointerCapture(event.pointerId);
      pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (!draws) return;
      const spot = spotAt(event);
      if (pointers.current.size === 1 && spot) {
        drawing.current = { id: event.pointerId, type: event.pointerType };
        pen.down(spot, event);
      } else if (drawing.current !== null) {
        drawing.current = null;
        pen.cancel();
      }
    },
    onPointerMove,
    onPointerUp: release,
    onPointerCancel: release,
    onPointerLeave: () => pen?.hover(null),
  };
}
