import { useEffect, useState } from "react";
import { useI18n } from "../i18n";
import styles from "./CopyCommand.module.css";
import { Icon } from "./Icon";

/** A command for another terminal, ready to be copied. */
export function CopyCommand({ label, command }: { label: string; command: string }) {
  const { t } = useI18n();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const name = t(copied ? "models.command.copied" : "models.command.copy");
  return (
    <p className={styles["command"]}>
      <span>{label}</span>
      <span className={styles["pair"]}>
        <code>{command}</code>
        {/* Browsers give no clipboard to a page that came over plain HTTP from another machine. */}
        {"clipboard" in navigator && (
          <button type="button" aria-label={`${name}: ${command}`} title={name}
            onClick={() => void navigator.clipboard.writeText(command).then(() => setCopied(true))}>
            <Icon name={copied ? "check" : "copy"} size={17} />
          </button>
        )}
      </span>
    </p>
  );
}
