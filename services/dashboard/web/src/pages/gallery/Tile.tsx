import { memo, useState, type KeyboardEvent, type MouseEvent } from "react";
import { Link } from "react-router";
import { caseThumbnailUrl } from "../../api/client";
import type { QueuedCase } from "../../api/types";
import { GradeMark } from "../../components/GradeMark";
import { Icon } from "../../components/Icon";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import styles from "./Tile.module.css";

interface Props {
  one: QueuedCase;
  /** Which of how many: most of them are not drawn. */
  place: number;
  of: number;
  chosen: boolean;
  /** The one that the keyboard comes to; the others are reached by arrows. */
  reachable: boolean;
  onPress: (id: string, event: MouseEvent) => void;
  onKey: (id: string, event: KeyboardEvent) => void;
}

/** A case as a picture with what the model says, what people say and how far they are. Pressing it chooses it. */
export const Tile = memo(function Tile({ one, place, of, chosen, reachable, onPress, onKey }: Props) {
  const { t, format } = useI18n();
  const [failed, setFailed] = useState(false);
  const { inspection: seen, settled_verdict: settled } = one;
  const state = t(`gallery.state.${one.state}`);
  const words = { part: seen.part_id, verdict: t(`verdict.${seen.verdict}`), state, time: format.since(seen.captured_at_ms) };
  const label = settled === null ? t("gallery.tile", words) : t("gallery.tile.settled", { ...words, settled: t(`gallery.settled.${settled}`) });
  return (
    <li className={styles["tile"]} data-chosen={chosen} data-verdict={seen.verdict} data-case={one.case_id} aria-posinset={place} aria-setsize={of}>
      <button type="button" role="checkbox" className={styles["picture"]} aria-checked={chosen} aria-label={label} tabIndex={reachable ? 0 : -1}
        onClick={(event) => onPress(one.case_id, event)} onKeyDown={(event) => onKey(one.case_id, event)}>
        {failed || one.image.width === 0 ? (
          <span className={styles["none"]}>
            <Icon name="broken" size={28} />
          </span>
        ) : (
          <img src={caseThumbnailUrl(one.case_id, 320)} alt="" loading="lazy" decoding="async" draggable={false} onError={() => setFailed(true)} />
        )}
        <span className={styles["verdict"]}>
          <VerdictMark verdict={seen.verdict} size={24} />
        </span>
        <span className={styles["box"]} aria-hidden="true">
          {chosen && <Icon name="check" size={20} />}
        </span>
      </button>
      <div className={styles["foot"]}>
        <Link to={`/review/${one.case_id}`} tabIndex={reachable ? 0 : -1}>
          <b>
            <span className="visually-hidden">{t("gallery.open")} </span>
            <bdi>{seen.part_id}</bdi>
          </b>
          <span>{format.since(seen.captured_at_ms)}</span>
        </Link>
        <span className={styles["marks"]} aria-hidden="true">
          <span className={styles["state"]} data-state={one.state}>
            {settled === null ? state : t(`gallery.settled.${settled}`)}
            {settled !== null && <VerdictMark verdict={settled} size={16} />}
          </span>
          {one.shown_method !== "" && <GradeMark grade={one.shown_grade} />}
        </span>
      </div>
    </li>
  );
});
