import { memo, useState } from "react";
import { Link } from "react-router";
import { thumbnailUrl } from "../api/client";
import type { Inspection } from "../api/types";
import { useI18n } from "../i18n";
import { Icon } from "./Icon";
import styles from "./PartThumb.module.css";
import { VerdictMark } from "./VerdictMark";

interface Props {
  part: Inspection;
  size?: "normal" | "large";
  current?: boolean;
}

/** A part as a small picture with its verdict's edge and shape; leads to its page. */
export const PartThumb = memo(function PartThumb({ part, size = "normal", current = false }: Props) {
  const { t, format } = useI18n();
  const [failed, setFailed] = useState(false);
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
        <img src={thumbnailUrl(part.frame_id, 160)} alt="" decoding="async" draggable={false} onError={() => setFailed(true)} />
      )}
      {part.verdict !== "pass" && (
        <span className={styles["mark"]}>
          <VerdictMark verdict={part.verdict} size={size === "large" ? 22 : 16} />
        </span>
      )}
    </Link>
  );
});
