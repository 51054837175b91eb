import { Link } from "react-router";
import type { Change } from "../../api/models";
import { ButtonLook } from "../../components/Button";
import { useI18n, type Translate } from "../../i18n";
import { rightOf } from "../../models/changes";
import styles from "./ChangeList.module.css";

interface ChangeListProps {
  changes: Change[];
  shown: { alias: string; revision: number };
  mine: boolean;
  onMore: (() => void) | null;
}

/** Every new live model, the newest first, each with how the corrected parts come out. */
export function ChangeList({ changes, shown, mine, onMore }: ChangeListProps) {
  const { t, format } = useI18n();
  return (
    <nav className={styles["list"]} aria-label={t("changes.list")}>
      <ol>
        {changes.map((change) => {
          const here = change.alias === shown.alias && change.revision === shown.revision;
          return (
            <li key={`${change.alias}/${change.revision}`}>
              <Link to={`/changes/${encodeURIComponent(change.alias)}/${change.revision}`} aria-current={here ? "page" : undefined}>
                <strong>{switchLabel(change, t)}</strong>
                <span>{t(change.actor ? "changes.by" : "changes.at", { time: format.since(change.at_ms), actor: change.actor })}</span>
                <span className={styles["result"]}>{result(change, mine, t)}</span>
              </Link>
            </li>
          );
        })}
      </ol>
      {onMore && (
        <button type="button" className={ButtonLook} onClick={onMore}>
          {t("changes.more")}
        </button>
      )}
    </nav>
  );
}

export function switchLabel(change: Change, t: Translate): string {
  const values = { alias: change.alias, previous: change.previous_version, live: change.live_version };
  return t(change.action === "roll_back" ? "changes.rolled_back" : "changes.switch", values);
}

function result(change: Change, mine: boolean, t: Translate): string {
  if (change.state === "comparing") return t("changes.item.comparing", { settled: change.settled, planned: change.planned });
  const { right, compared } = rightOf(change.counts);
  if (compared === 0) return t("changes.item.none");
  return t(mine ? "changes.item.mine" : "changes.item.everyone", { right, parts: compared });
}
