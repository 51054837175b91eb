import type { Light } from "../api/lines";
import { useI18n } from "../i18n";
import styles from "./StackLight.module.css";

const LAMPS: Light[] = ["red", "amber", "green"];

/** The shape of a lamp, so that lights differ by more than colour: an octagon with a bar, a triangle, a circle. */
export function LampMark({ light, size = 20 }: { light: Light | null; size?: number }) {
  const common = { width: size, height: size, viewBox: "0 0 24 24", "aria-hidden": true, focusable: false } as const;
  const sign = { fill: "none", strokeWidth: 2.6, strokeLinecap: "round", strokeLinejoin: "round" } as const;
  if (light === "red") {
    return (
      <svg {...common}>
        <path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z" fill="currentColor" />
        <path d="M7 12h10" {...sign} stroke="var(--mark-sign)" />
      </svg>
    );
  }
  if (light === "amber") {
    return (
      <svg {...common}>
        <path d="M12 1.500 23.500 22H.5z" fill="currentColor" stroke="currentColor" strokeWidth="1" strokeLinejoin="round" />
        <path d="M12 9v5.500M12 18.500h.01" {...sign} stroke="var(--mark-sign)" />
      </svg>
    );
  }
  if (light === "green") {
    return (
      <svg {...common}>
        <circle cx="12" cy="12" r="11" fill="currentColor" />
        <path d="M7 12.500l3.500 3.500L17 8.500" {...sign} stroke="var(--mark-sign)" />
      </svg>
    );
  }
  return (
    <svg {...common}>
      <circle cx="12" cy="12" r="10" fill="none" stroke="currentColor" strokeWidth="2" strokeDasharray="4 3" />
      <path d="M9.500 9.500a2.600 2.600 0 1 1 3.900 2.300c-.9.5-1.400 1-1.400 2M12 17.500h.01" {...sign} strokeWidth="2" stroke="currentColor" />
    </svg>
  );
}

/** The stack light of a line, as it stands beside it: three lamps, the lit one with its word. */
export function StackLight({ lineId, light }: { lineId: string; light: Light | null }) {
  const { t } = useI18n();
  return (
    <div className={styles["stack"]} role="img" data-testid="stack-light" data-light={light ?? "none"}
      aria-label={t("light.label", { line: lineId, light: t(`light.${light ?? "none"}`) })}>
      {LAMPS.map((lamp) => (
        <span key={lamp} className={styles["lamp"]} data-lamp={lamp} data-lit={lamp === light}>
          <LampMark light={lamp} size={34} />
          {lamp === light && <span>{t(`light.${lamp}`)}</span>}
        </span>
      ))}
    </div>
  );
}

/** The same in one word, for beside a name. */
export function LightPill({ lineId, light }: { lineId: string; light: Light | null }) {
  const { t } = useI18n();
  const word = t(`light.${light ?? "none"}`);
  return (
    <span className={styles["pill"]} data-light={light ?? "none"} title={t("light.label", { line: lineId, light: word })}>
      <LampMark light={light} size={16} />
      {word}
    </span>
  );
}
