import type { MouseEvent } from "react";
import { ButtonLook } from "../../components/Button";
import { Icon, type IconName } from "../../components/Icon";
import { useI18n } from "../../i18n";
import styles from "./DrawTools.module.css";
import type { Correction } from "./useCorrection";
import type { DrawingTools, Tool } from "./useDrawing";

const TOOLS: { tool: Tool; icon: IconName; key: string }[] = [
  { tool: "brush", icon: "brush", key: "B" },
  { tool: "eraser", icon: "eraser", key: "E" },
  { tool: "polygon", icon: "polygon", key: "P" },
];

/** A press leaves the keyboard where it is, so that Space and Enter keep their meaning. */
export const stayPut = (event: MouseEvent) => event.preventDefault();

/** What one draws with. */
export function DrawTools({ drawing, correction, disabled }: { drawing: DrawingTools; correction: Correction; disabled: boolean }) {
  const { t, format } = useI18n();
  const { tool, radius } = drawing;
  const asArea = correction.draft?.asArea ?? false;
  return (
    <div className={styles["tools"]} role="toolbar" aria-label={t("review.draw.label")}>
      <div className={styles["group"]}>
        {TOOLS.map(({ tool: one, icon, key }) => (
          <button type="button" key={one} aria-pressed={tool === one} disabled={disabled || (asArea && one !== "polygon")}
            aria-keyshortcuts={key} onMouseDown={stayPut} onClick={() => drawing.choose(one)}>
            <Icon name={icon} />
            {t(`review.draw.${one}`)}
            <kbd aria-hidden="true">{key}</kbd>
          </button>
        ))}
      </div>
      <div className={styles["size"]}>
        <button type="button" className={ButtonLook} aria-label={t("review.draw.smaller")} aria-keyshortcuts="[" title={`${t("review.draw.smaller")} [`}
          disabled={disabled || tool === "polygon"} onMouseDown={stayPut} onClick={() => drawing.resize(-1)}>
          <Icon name="minus" />
        </button>
        <span aria-label={t("review.draw.size", { size: format.count(radius * 2) })} role="img">
          {tool === "polygon" ? "–" : format.count(radius * 2)}
        </span>
        <button type="button" className={ButtonLook} aria-label={t("review.draw.larger")} aria-keyshortcuts="]" title={`${t("review.draw.larger")} ]`}
          disabled={disabled || tool === "polygon"} onMouseDown={stayPut} onClick={() => drawing.resize(1)}>
          <Icon name="plus" />
        </button>
      </div>
      <div className={styles["size"]}>
        <button type="button" className={ButtonLook} aria-label={t("review.draw.undo")} title={`${t("review.draw.undo")} (Ctrl+Z)`} disabled={disabled}
          onMouseDown={stayPut} onClick={drawing.undo}>
          <Icon name="undo" />
        </button>
        <button type="button" className={ButtonLook} aria-label={t("review.draw.redo")} title={`${t("review.draw.redo")} (Ctrl+Shift+Z)`} disabled={disabled}
          onMouseDown={stayPut} onClick={drawing.redo}>
          <Icon name="redo" />
        </button>
        <button type="button" className={ButtonLook} aria-label={t("review.draw.clear")} title={`${t("review.draw.clear")} (X)`} disabled={disabled}
          onMouseDown={stayPut} onClick={drawing.clear}>
          <Icon name="bin" />
        </button>
      </div>
      <p className={styles["hint"]}>{t("review.draw.hint")}</p>
    </div>
  );
}
