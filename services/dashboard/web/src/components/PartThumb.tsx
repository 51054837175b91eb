import { memo, useEffect, useState } from "react";
import { Link } from "react-router";
import { thumbnailUrl } from "../api/client";
import type { Inspection } from "../api/types";
import { useI18n } from "../i18n";
import { Icon } from "./Icon";
import styles from "./PartThumb.module.css";
import { VerdictMark } from "./VerdictMark";

// A store that was away comes back; an expired picture does not. After a few tries it is taken for expired.
const TRIES = 4;
const RETRY_MS = 4_000;

interface Props {
  part: Pick<Inspection, "frame_id" | "part_id" | "verdict" | "captured_at_ms">;
  size?: "normal" | "large";
  current?: boolean;
}

/** A part as a small picture with its verdict's edge and shape; leads to its page. */
export const PartThumb = memo(function PartThumb({ part, size = "normal", current = false }: Props) {
  const { t, format } = useI18n();
  const [failures, setFailures] = useState(0);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (!failed || failures > TRIES) return;
    const timer = setTimeout(() => setFailed(false), failures * RETRY_MS);
    return () => clearTimeout(timer);
  }, [failed, failures]);
  const onError = () => {
    setFailed(true);
    setFailures((count) => count + 1);
  };
  const label = t("thumb.open", {
    verdict: t(`verdict.${part.verdict}`),
    part: part.part_id,
    time: format.clock(part.captured_at_ms),
  });
  return (
    <Link className={styles["thumb"]} to={`/parts/${part.frame_id}`} data-verdict={part.verdict} data-size={size}
      aria-label={label} title={label} aria-current={current ? "true" : undefined}>
      {failed ? (
        <span className={styles["none"]}>
          <Icon name="broken" size={18} />
        </span>
      ) : (
        <img src={thumbnailUrl(part.frame_id, 160)} alt="" loading="lazy" decoding="async" draggable={false} onError={onError} />
      )}
      {part.verdict !== "pass" && (
        <span className={styles["mark"]}>
          <VerdictMark verdict={part.verdict} size={size === "large" ? 22 : 16} />
        </span>
      )}
    </Link>
  );
});
