import { useCallback, useEffect, useLayoutEffect, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { ApiError, fetchPart, imageUrl, thumbnailUrl } from "../../api/client";
import type { Part, Problem } from "../../api/types";
import { ButtonLook, IconButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { PartThumb } from "../../components/PartThumb";
import { Viewer, type ViewedPicture } from "../../components/Viewer";
import { useI18n } from "../../i18n";
import { useExplained } from "../../live/hooks";
import { PartMapBar } from "./PartMapBar";
import styles from "./PartPage.module.css";
import { PANELS } from "./panels";
import { useMaps } from "./useMaps";

type Loaded = { frameId: string; part: Part } | { frameId: string; problem: Problem };

export function PartPage() {
  const { t } = useI18n();
  const { frameId = "" } = useParams();
  const [loaded, reload, refresh] = usePart(frameId);
  useExplained(frameId, refresh);
  const navigate = useNavigate();
  const part = loaded && "part" in loaded ? loaded.part : null;
  const previousId = part?.previous_frame_id ?? null;
  const nextId = part?.next_frame_id ?? null;
  const openPart = useCallback(
    // One entry in the history for a walk along the camera: "back" then leads to where the walk began.
    (id: string | null) => id !== null && void navigate(`/parts/${id}`, { replace: true }),
    [navigate],
  );
  usePageKeys(() => openPart(previousId), () => (nextId === null ? reload() : openPart(nextId)));
  useEffect(() => {
    const name = part ? t("part.title", { part: part.inspection.part_id }) : t("nav.wall");
    document.title = `${name} · ${t("app.name")}`;
  }, [part, t]);
  if (loaded && "problem" in loaded) return <PartProblem problem={loaded.problem} onRetry={reload} />;
  if (!part) return <Message title={t("part.loading")} />;
  return <LoadedPart part={part} onOpen={openPart} onReload={reload} />;
}

interface LoadedProps {
  part: Part;
  onOpen: (frameId: string | null) => void;
  onReload: () => void;
}

function LoadedPart({ part, onOpen, onReload }: LoadedProps) {
  const { t, format } = useI18n();
  const { inspection } = part;
  const maps = useMaps(part);
  const picture: ViewedPicture = {
    url: imageUrl(inspection.frame_id),
    thumbnailUrl: thumbnailUrl(inspection.frame_id, 640),
    alt: t("picture.alt", { part: inspection.part_id, camera: inspection.camera_id }),
    detail: inspection.detail,
    aspect: null,
  };
  return (
    <div className={styles["page"]}>
      <div className={styles["bar"]}>
        <Link className={ButtonLook} to="/">
          <Icon name="left" size={18} />
          {t("part.back")}
        </Link>
        <h1>{inspection.part_id}</h1>
        <span className={styles["where"]}>
          {inspection.camera_id} · {format.clock(inspection.captured_at_ms)}
        </span>
        <span className={styles["keys"]}>{t("part.keys")}</span>
      </div>
      <div className={styles["viewer"]}>
        <Viewer picture={picture} map={maps.shown} opacity={maps.hidden ? 0 : maps.opacity} />
        <PartMapBar explained={part.explained} maps={maps} />
      </div>
      <nav className={styles["film"]} aria-label={t("part.neighbours")}>
        <button type="button" className={ButtonLook} aria-label={t("part.previous")} title={t("part.previous")}
          disabled={part.previous_frame_id === null} onClick={() => onOpen(part.previous_frame_id)}>
          <Icon name="left" />
        </button>
        <FilmStrip part={part} />
        <button type="button" className={ButtonLook} aria-label={part.next_frame_id === null ? t("part.newest") : t("part.next")}
          title={part.next_frame_id === null ? t("part.newest") : t("part.next")}
          onClick={() => (part.next_frame_id === null ? onReload() : onOpen(part.next_frame_id))}>
          <Icon name="right" />
        </button>
      </nav>
      <div className={styles["side"]}>
        {PANELS.map(({ id, Panel }) => (
          <Panel key={id} part={part} maps={maps} />
        ))}
      </div>
    </div>
  );
}

function FilmStrip({ part }: { part: Part }) {
  const [element, setElement] = useState<HTMLOListElement | null>(null);
  const [fitting, setFitting] = useState(9);
  useEffect(() => {
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setFitting(Math.max(1, Math.floor((entry.contentRect.width + 6) / 54)));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  const here = part.neighbours.findIndex((one) => one.frame_id === part.inspection.frame_id);
  const start = Math.max(0, Math.min(here - Math.floor(fitting / 2), part.neighbours.length - fitting));
  return (
    <ol ref={setElement}>
      {part.neighbours.slice(start, start + fitting).map((one) => (
        <li key={one.frame_id}>
          <PartThumb part={one} current={one.frame_id === part.inspection.frame_id} />
        </li>
      ))}
    </ol>
  );
}

function PartProblem({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  const { t } = useI18n();
  const kind = problem.reason === "frame_unknown" ? "unknown" : problem.reason === "invalid_input" ? "invalid" : "error";
  const text = kind === "error" ? problem.message : t(`part.${kind}.text`);
  return (
    <Message title={t(`part.${kind}.title`)} text={text}>
      <Link className={ButtonLook} to="/">
        {t("app.to_wall")}
      </Link>
      {kind === "error" && (
        <button type="button" className={IconButtonLook} onClick={onRetry}>
          {t("picture.retry")}
        </button>
      )}
    </Message>
  );
}

/** The part of an address; the one before stays on the page until the next has come. */
function usePart(frameId: string): [loaded: Loaded | null, reload: () => void, refresh: () => void] {
  const [loaded, setLoaded] = useState<Loaded | null>(null);
  const [attempt, setAttempt] = useState({ count: 0, quietly: false });
  useEffect(() => {
    const abort = new AbortController();
    fetchPart(frameId, abort.signal)
      .then((part) => setLoaded({ frameId, part }))
      .catch((error: unknown) => {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error.problem : { reason: "error", message: String(error) };
        // What is on the page stays there when only news of it could not be had.
        setLoaded((now) => (attempt.quietly && now?.frameId === frameId && "part" in now ? now : { frameId, problem }));
      });
    return () => abort.abort();
  }, [frameId, attempt]);
  const reload = useCallback(() => setAttempt(({ count }) => ({ count: count + 1, quietly: false })), []);
  const refresh = useCallback(() => setAttempt(({ count }) => ({ count: count + 1, quietly: true })), []);
  return [loaded, reload, refresh];
}

function usePageKeys(onPrevious: () => void, onNext: () => void): void {
  const navigate = useNavigate();
  // Before the browser paints: a key pressed on sight of a part must not be taken for the part that was there before.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      // A slider and a list have their own use for the arrows.
      const arrowsTaken = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (arrowsTaken && event.key.startsWith("Arrow")) return;
      if (event.key === "ArrowLeft") onPrevious();
      else if (event.key === "ArrowRight") onNext();
      else if (event.key === "Escape") void navigate("/");
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}
