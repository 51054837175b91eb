import { useEffect, useState } from "react";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import styles from "./FactsPanel.module.css";

export interface Fact {
  name: string;
  value: string;
  /** An id that people copy: set in a fixed width, with a button. */
  code?: boolean;
}

export function Facts({ facts }: { facts: Fact[] }) {
  return (
    <dl className={styles["facts"]}>
      {facts.map(({ name, value, code = false }) => (
        <div key={name} className={styles["row"]}>
          <dt>{name}</dt>
          <dd data-code={code}>{value}</dd>
          <dd>{code && <Copy name={name} value={value} />}</dd>
        </div>
      ))}
    </dl>
  );
}

function Copy({ name, value }: { name: string; value: string }) {
  const { t } = useI18n();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  // Browsers give no clipboard to a page that came over plain HTTP from another machine.
  if (!("clipboard" in navigator)) return null;
  const label = copied ? t("fact.copied") : t("fact.copy", { name });
  return (
    <button type="button" className={styles["copy"]} aria-label={label} title={label}
      onClick={() => void navigator.clipboard.writeText(value).then(() => setCopied(true))}>
      <Icon name={copied ? "check" : "copy"} size={17} />
    </button>
  );
}
