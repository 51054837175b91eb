import type { KeyboardEvent, ReactNode } from "react";
import { useI18n } from "../i18n";
import { ButtonLook } from "./Button";
import { GradeMark } from "./GradeMark";
import { Icon } from "./Icon";
import styles from "./MapBar.module.css";
import { methodName } from "./mapWords";
import { NO_MAP } from "./maps";
import type { MapChoice } from "./useMapChoice";

interface Props {
  maps: MapChoice;
  /** Further ways to a map, after those that are there. */
  children?: ReactNode;
  /** In one row whatever its width, so that the picture above it keeps its size from part to part. */
  oneRow?: boolean;
}

/** What lies over the picture, and how strongly. */
export function MapBar({ maps, children, oneRow = false }: Props) {
  const { t } = useI18n();
  const { shown } = maps;
  return (
    <div className={styles["bar"]} data-one-row={oneRow} role="group" aria-label={t("map.label")}>
      {maps.all.length > 0 && (
        <div className={styles["methods"]}>
          <button type="button" aria-pressed={shown === null} onClick={() => maps.choose(NO_MAP)}>
            {t("map.none")}
          </button>
          {maps.all.map(({ explanation, requested: own }) => (
            <button type="button" key={`${explanation.method} ${own}`} aria-pressed={shown?.explanation === explanation}
              onClick={() => maps.choose(explanation.method)}>
              <GradeMark grade={explanation.grade} />
              {methodName(explanation.method, t)}
            </button>
          ))}
        </div>
      )}
      {children}
      {shown && <Strength maps={maps} />}
    </div>
  );
}

function Strength({ maps }: { maps: MapChoice }) {
  const { t, format } = useI18n();
  const onKey = (hidden: boolean) => (event: KeyboardEvent) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    maps.hide(hidden);
  };
  return (
    <div className={styles["strength"]}>
      <label className={styles["slider"]}>
        <span>{t("map.strength")}</span>
        <input type="range" min={0.1} max={1} step={0.05} value={maps.opacity}
          aria-valuetext={format.percent(maps.opacity)}
          onChange={(event) => maps.setOpacity(Number(event.target.value))} />
      </label>
      <button type="button" className={`${ButtonLook} ${styles["hold"]}`} aria-pressed={maps.hidden}
        onPointerDown={() => maps.hide(true)} onPointerUp={() => maps.hide(false)}
        onPointerLeave={() => maps.hide(false)} onPointerCancel={() => maps.hide(false)}
        onKeyDown={onKey(true)} onKeyUp={onKey(false)} onBlur={() => maps.hide(false)}
        onContextMenu={(event) => event.preventDefault()}>
        <Icon name="eye" size={20} />
        {t("map.hold")}
      </button>
    </div>
  );
}
