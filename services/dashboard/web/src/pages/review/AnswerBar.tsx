import type { ReactNode } from "react";
import type { Verdict } from "../../api/types";
import { Icon } from "../../components/Icon";
import { VerdictMark } from "../../components/VerdictMark";
import { useI18n } from "../../i18n";
import { SAID, canSay, settledBy, type Said } from "../../review/answers";
import type { Draft } from "../../review/drafts";
import { useReviewStation, useStation } from "../../review/hooks";
import styles from "./AnswerBar.module.css";
import { stayPut } from "./DrawTools";
import { answerLabel, sentLabel } from "./words";

const KEYS: Record<Said, string> = { right: "1", wrong: "2", elsewhere: "3", unsure: "0" };

interface Props {
  verdict: Verdict;
  mapSeen: boolean;
  /** The answer that is being corrected; null while one is chosen. */
  correcting: Draft | null;
  onSay: (said: Said) => void;
  onSend: () => void;
  onBack: () => void;
}

/** The answers, within reach of a thumb. */
export function AnswerBar({ verdict, mapSeen, correcting, onSay, onSend, onBack }: Props) {
  const { t } = useI18n();
  const station = useReviewStation();
  const { turns } = useStation();
  if (correcting !== null) {
    return (
      <div className={styles["bar"]} role="group" aria-label={t("review.answers")}>
        <Answer hint="Esc" onPress={onBack}>
          <Icon name="left" />
          <span>{t("review.back")}</span>
        </Answer>
        <Answer hint="Enter" strong onPress={onSend}>
          <VerdictMark verdict="fail" size={26} onFill />
          <span>{t("review.send", { answer: sentLabel(correcting, verdict, t) })}</span>
        </Answer>
      </div>
    );
  }
  return (
    <div className={styles["bar"]} role="group" aria-label={t("review.answers")}>
      <Small icon="left" label={t("review.previous")} hint="←" onPress={() => station.walk(-1)} />
      {SAID.map((said) => {
        const settled = settledBy(said, verdict);
        return (
          <Answer key={said} hint={KEYS[said]} disabled={!canSay(said, mapSeen)} tone={settled} onPress={() => onSay(said)}>
            <span className={styles["marks"]}>
              {settled === null ? <Icon name="unsure" size={26} /> : <VerdictMark verdict={settled} size={26} />}
              {said === "elsewhere" && <Icon name="elsewhere" size={22} />}
            </span>
            <span>{answerLabel(said, verdict, t)}</span>
          </Answer>
        );
      })}
      <Small icon="skip" label={t("review.skip")} hint="S" onPress={() => station.skip()} />
      <Small icon="undo" label={t("review.undo.short")} hint="Z" disabled={turns.length === 0} onPress={() => void station.undoLast()} />
      <Small icon="right" label={t("review.next")} hint="→" onPress={() => station.walk(1)} />
    </div>
  );
}

interface AnswerProps {
  hint: string;
  disabled?: boolean;
  strong?: boolean;
  tone?: string | null;
  onPress: () => void;
  children: ReactNode;
}

function Answer({ hint, disabled = false, strong = false, tone = null, onPress, children }: AnswerProps) {
  return (
    <button type="button" className={styles["answer"]} data-strong={strong} data-tone={tone ?? "none"} disabled={disabled}
      aria-keyshortcuts={hint} onMouseDown={stayPut} onClick={onPress}>
      <kbd aria-hidden="true">{hint}</kbd>
      {children}
    </button>
  );
}

interface SmallProps {
  icon: "left" | "right" | "skip" | "undo";
  label: string;
  hint: string;
  disabled?: boolean;
  onPress: () => void;
}

function Small({ icon, label, hint, disabled = false, onPress }: SmallProps) {
  return (
    <button type="button" className={styles["small"]} title={`${label} (${hint})`} disabled={disabled} onMouseDown={stayPut} onClick={onPress}>
      <Icon name={icon} />
      <span>{label}</span>
    </button>
  );
}
