import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";
import { ApiError, caseThumbnailUrl, fetchNeighbours } from "../../api/client";
import type { Neighbour, Neighbours } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n, type Translate } from "../../i18n";
import { useReviewStation } from "../../review/hooks";
import type { Because } from "../../review/station";
import styles from "./NeighboursPanel.module.css";

interface Props {
  caseId: string;
  open: boolean;
  onToggle: () => void;
}

/** The parts that are most and least like the case, beside it when somebody asks for them. */
export function NeighboursPanel({ caseId, open, onToggle }: Props) {
  const { t } = useI18n();
  return (
    <>
      <button type="button" className={`${ButtonLook} ${styles["toggle"]}`} aria-expanded={open} aria-keyshortcuts="C" onClick={onToggle}>
        <Icon name="compare" size={18} />
        {t(open ? "review.like.hide" : "review.like.show")}
        <kbd aria-hidden="true">C</kbd>
      </button>
      {open && <Found caseId={caseId} />}
    </>
  );
}

function Found({ caseId }: { caseId: string }) {
  const { t, format } = useI18n();
  const [found, problem] = useNeighbours(caseId);
  const [picked, setPicked] = useState<Neighbour | null>(null);
  const cards = useRef<HTMLUListElement>(null);
  // Asked for with a key, they are of no use below the edge of a small screen.
  useEffect(() => {
    // In braces: newer browsers give a promise, which React would take for the effect's end.
    cards.current?.scrollIntoView({ block: "nearest" });
  }, [found]);
  return (
    <Panel title={t("review.like.title")}>
      {problem !== null && <p className={styles["quiet"]}>{t("review.like.problem", { reason: problem })}</p>}
      {problem === null && !found && <p className={styles["quiet"]}>{t("review.like.loading")}</p>}
      {found && found.neighbours.length === 0 && <p className={styles["quiet"]}>{t("review.like.none")}</p>}
      {found && found.neighbours.length > 0 && (
        <>
          <ul className={styles["cards"]} ref={cards} data-testid="neighbours">
            {found.neighbours.map((one) => (
              <li key={one.relation}>
                <Card one={one} pressed={picked === one} onPress={() => setPicked(picked === one ? null : one)} />
              </li>
            ))}
          </ul>
          {picked && <Picked one={picked} />}
          <p className={styles["quiet"]}>
            {t(found.exact ? "review.like.compared" : "review.like.about", { count: format.count(found.compared) })}
          </p>
        </>
      )}
    </Panel>
  );
}

function Card({ one, pressed, onPress }: { one: Neighbour; pressed: boolean; onPress: () => void }) {
  const { t, format } = useI18n();
  const relation = t(`review.like.${one.relation}`);
  const similarity = format.score(one.similarity);
  const verdict = one.settled_verdict ?? one.verdict;
  return (
    <button type="button" className={styles["card"]} aria-pressed={pressed} onClick={onPress} data-verdict={verdict}>
      <span className={styles["picture"]}>
        <Shot url={`${one.thumbnail}?size=160`} alt="" />
        <span className={styles["mark"]}>
          <VerdictMark verdict={verdict} size={20} />
        </span>
      </span>
      <strong>{relation}</strong>
      <span>
        <span className="visually-hidden">{t("review.like.pick", { part: one.part_id, verdict: words(one, t) })}</span> {similarity}
      </span>
    </button>
  );
}

/** A picture, or the sign that it is gone: those of parts that were no cases are kept for a while only. */
function Shot({ url, alt, onLoad }: { url: string; alt: string; onLoad?: () => void }) {
  const { t } = useI18n();
  const [gone, setGone] = useState(false);
  if (!gone) return <img src={url} alt={alt} decoding="async" draggable={false} onLoad={onLoad} onError={() => setGone(true)} />;
  return (
    <span className={styles["gone"]} role="img" aria-label={t("review.like.gone")} title={t("review.like.gone")}>
      <Icon name="broken" size={24} />
    </span>
  );
}

/** One neighbour large enough to compare with, and the way to it. */
function Picked({ one }: { one: Neighbour }) {
  const { t, format } = useI18n();
  const station = useReviewStation();
  const { case_id: caseId } = one;
  const figure = useRef<HTMLElement>(null);
  return (
    <figure className={styles["picked"]} ref={figure}>
      <Shot url={one.image} alt={t("review.like.picture", { part: one.part_id })}
        onLoad={() => figure.current?.scrollIntoView({ block: "nearest" })} />
      <figcaption>
        <strong>{words(one, t)}</strong>
        <span>
          {one.part_id} · {format.clock(one.captured_at_ms)} · {t("review.like.similarity", { similarity: format.score(one.similarity) })}
        </span>
      </figcaption>
      {caseId === null ? (
        <Link className={ButtonLook} to={`/parts/${one.frame_id}`}>
          {t("review.like.page")}
        </Link>
      ) : (
        <button type="button" className={ButtonLook} onClick={() => void station.openCase(caseId)}>
          {t("review.like.open")}
        </button>
      )}
    </figure>
  );
}

/** The part whose wrong verdict has brought the case here. */
export function BecausePanel({ because }: { because: Because }) {
  const { t } = useI18n();
  const { relation, partId, caseId } = because;
  return (
    <div className={styles["because"]} role="note" data-testid="because">
      <img src={caseThumbnailUrl(caseId, 160)} alt="" decoding="async" draggable={false} />
      <p>{t(relation === "farthest" ? "review.because.other" : `review.because.${relation}`, { part: partId })}</p>
    </div>
  );
}

function words(one: Neighbour, t: Translate): string {
  if (one.settled_verdict === null) return t(`verdict.${one.verdict}`);
  return t("review.like.by_people", { verdict: t(`verdict.${one.settled_verdict}`) });
}

/** The neighbours of a case, and why they cannot be had; both null while they are on their way. */
function useNeighbours(caseId: string): [Neighbours | null, string | null] {
  const [found, setFound] = useState<Neighbours | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    fetchNeighbours(caseId, abort.signal).then(setFound, (error: unknown) => {
      if (!abort.signal.aborted) setProblem(error instanceof ApiError ? error.message : String(error));
    });
    return () => abort.abort();
  }, [caseId]);
  return [found, problem];
}
