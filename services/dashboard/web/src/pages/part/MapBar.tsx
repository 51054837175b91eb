import type { KeyboardEvent } from "react";
import type { Explained } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { GradeMark } from "../../components/GradeMark";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import styles from "./MapBar.module.css";
import { methodName } from "./mapWords";
import { NO_MAP, otherMethods } from "./maps";
import type { Maps } from "./useMaps";

/** What lies over the picture, and how strongly. Draws nothing where there is no map and none can be made. */
export function MapBar({ explained, maps }: { explained: Explained; maps: Maps }) {
  const { t } = useI18n();
  const others = otherMethods(explained, maps.all);
  if (maps.all.length === 0 && others.length === 0) return null;
  const { requested, shown } = maps;
  const running = requested?.phase === "running";
  return (
    <div className={styles["bar"]} role="group" aria-label={t("map.label")}>
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
      {others.length > 0 && (
        <select className={styles["other"]} aria-label={t("map.other")} value=""
          onChange={(event) => maps.choose(event.target.value)}>
          <option value="" disabled>
            {t(maps.all.length > 0 ? "map.other" : "map.ask")}
          </option>
          {others.map((method) => (
            <option key={method} value={method}>
              {methodName(method, t)}
            </option>
          ))}
        </select>
      )}
      {running && (
        <button type="button" className={ButtonLook} onClick={maps.stop}>
          <Icon name="stop" size={18} />
          {t("map.stop")}
        </button>
      )}
      {shown && <Strength maps={maps} />}
    </div>
  );
}

function Strength({ maps }: { maps: Maps }) {
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
