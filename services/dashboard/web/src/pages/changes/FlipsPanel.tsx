import type { Change, Flip } from "../../api/models";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { VerdictBadge } from "../../components/VerdictBadge";
import { useI18n } from "../../i18n";
import { isExact } from "../../models/changes";
import styles from "./FlipsPanel.module.css";

/** Recent frames of the line whose verdict comes out otherwise: how many, of how many, and how sure that is. */
export function FlipsPanel({ change }: { change: Change }) {
  const { t, format } = useI18n();
  const { flipped, flips, frames, frames_compared: compared } = change;
  const told = (value: number) => format.count(Math.round(value));
  return (
    <Panel title={t("changes.flips.title")}>
      <div className={styles["flips"]} data-testid="flips">
        {flipped === null ? (
          <p>{t("changes.flips.none")}</p>
        ) : (
          <>
            <strong className={styles["total"]}>
              {t(isExact(flipped) ? "changes.flips.total.exact" : "changes.flips.total", {
                value: told(flipped.value),
                frames: told(frames),
                low: told(flipped.low),
                high: told(flipped.high),
              })}
            </strong>
            {flips.length === 0 && <p>{t("changes.flips.zero", { compared: format.count(compared) })}</p>}
            <ul>
              {flips.map((flip) => (
                <Kind key={`${flip.before} ${flip.after}`} flip={flip} />
              ))}
            </ul>
            {change.frames_since_ms !== null && change.frames_until_ms !== null && (
              <p className={styles["note"]}>
                {t("changes.flips.note", {
                  since: format.since(change.frames_since_ms),
                  until: format.since(change.frames_until_ms),
                  previous: change.previous_version,
                })}
              </p>
            )}
          </>
        )}
      </div>
    </Panel>
  );
}

function Kind({ flip: { before, after, flipped, compared, estimate } }: { flip: Flip }) {
  const { t, format } = useI18n();
  const told = (value: number) => format.count(Math.round(value));
  return (
    <li>
      <span className={styles["pair"]}>
        <VerdictBadge verdict={before} />
        <Icon name="right" size={16} />
        <VerdictBadge verdict={after} />
      </span>
      <span>
        {t(isExact(estimate) ? "changes.flips.kind.exact" : "changes.flips.kind", {
          flipped: format.count(flipped),
          compared: format.count(compared),
          value: told(estimate.value),
          low: told(estimate.low),
          high: told(estimate.high),
        })}
      </span>
    </li>
  );
}
