import { ButtonLook, IconButtonLook, StrongButtonLook } from "../../components/Button";
import { Icon, type IconName } from "../../components/Icon";
import { VerdictMark } from "../../components/VerdictMark";
import type { BulkAction, BulkOutcome } from "../../gallery/bulk";
import { useI18n } from "../../i18n";
import styles from "./BulkBar.module.css";

interface Props {
  chosen: number;
  /** How far answers on their way are. */
  sending: { done: number; count: number } | null;
  outcome: BulkOutcome | null;
  onAction: (action: BulkAction) => void;
  onExport: () => void;
  onClear: () => void;
  onChooseAll: () => void;
  onUndo: () => void;
  onRetry: () => void;
  onDismiss: () => void;
}

/** What can be done with the chosen cases, and what became of what was done last. */
export function BulkBar(props: Props) {
  const { t, format } = useI18n();
  const { chosen, sending, outcome } = props;
  const idle = sending === null;
  if (chosen === 0 && idle && outcome === null) return null;
  return (
    <section className={styles["bar"]} aria-label={t("gallery.bar")} data-testid="bulk">
      {(outcome !== null || !idle) && (
        <div className={styles["row"]}>
          <p role="status" className={styles["told"]} data-trouble={outcome !== null && (outcome.refused.length > 0 || outcome.waiting.length > 0)}>
            {sending !== null ? t("gallery.sending", { done: format.count(sending.done), count: format.count(sending.count) }) : outcome && <Told outcome={outcome} />}
          </p>
          {idle && outcome !== null && (
            <>
              {outcome.waiting.length > 0 && (
                <button type="button" className={StrongButtonLook} onClick={props.onRetry}>
                  {t("gallery.retry")}
                </button>
              )}
              {outcome.taken.length > 0 && (outcome.action === "good" || outcome.action === "defective") && (
                <button type="button" className={ButtonLook} onClick={props.onUndo}>
                  <Icon name="undo" size={18} />
                  {outcome.taken.length === 1 ? t("gallery.undo.one") : t("gallery.undo", { count: format.count(outcome.taken.length) })}
                </button>
              )}
              <button type="button" className={IconButtonLook} aria-label={t("gallery.dismiss")} title={t("gallery.dismiss")} onClick={props.onDismiss}>
                <Icon name="close" />
              </button>
            </>
          )}
        </div>
      )}
      {chosen > 0 && (
        <div className={styles["row"]}>
          <b className={styles["count"]}>{t("gallery.chosen", { count: format.count(chosen) })}</b>
          <button type="button" className={ButtonLook} disabled={!idle} onClick={() => props.onAction("good")}>
            <VerdictMark verdict="pass" />
            {t("gallery.action.good")}
          </button>
          <button type="button" className={ButtonLook} disabled={!idle} onClick={() => props.onAction("defective")}>
            <VerdictMark verdict="fail" />
            {t("gallery.action.defective")}
          </button>
          <Plain icon="skip" word={t("gallery.action.skip")} disabled={!idle} onPress={() => props.onAction("skip")} />
          <Plain icon="undo" word={t("gallery.action.undo")} disabled={!idle} onPress={() => props.onAction("undo")} />
          <Plain icon="save" word={t("gallery.action.export")} disabled={!idle} onPress={props.onExport} />
          <span className={styles["space"]} />
          <button type="button" className={ButtonLook} onClick={props.onChooseAll}>
            {t("gallery.choose_all")}
          </button>
          <button type="button" className={ButtonLook} onClick={props.onClear}>
            {t("gallery.clear")}
          </button>
        </div>
      )}
    </section>
  );
}

function Plain({ icon, word, disabled, onPress }: { icon: IconName; word: string; disabled: boolean; onPress: () => void }) {
  return (
    <button type="button" className={ButtonLook} disabled={disabled} onClick={onPress}>
      <Icon name={icon} size={18} />
      {word}
    </button>
  );
}

function Told({ outcome }: { outcome: BulkOutcome }) {
  const { t, format } = useI18n();
  const { taken, refused, waiting, problem } = outcome;
  const phrases = [
    ...(taken.length > 0 ? [t(`gallery.said.${outcome.action}`, { count: format.count(taken.length) })] : []),
    ...(refused.length > 0 ? [t("gallery.refused", { count: format.count(refused.length), message: refused[0]?.error?.message ?? "" })] : []),
    ...(waiting.length > 0 ? [t("gallery.waiting", { count: format.count(waiting.length), message: problem?.message ?? "" })] : []),
  ];
  return <>{phrases.join(" · ")}</>;
}
