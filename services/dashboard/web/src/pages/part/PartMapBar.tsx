import type { Explained } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { MapBar } from "../../components/MapBar";
import { methodName } from "../../components/mapWords";
import { otherMethods } from "../../components/maps";
import { useI18n } from "../../i18n";
import styles from "./PartMapBar.module.css";
import type { Maps } from "./useMaps";

/** The maps that a part has, and those that can be asked for. Draws nothing where there is neither. */
export function PartMapBar({ explained, maps }: { explained: Explained; maps: Maps }) {
  const { t } = useI18n();
  const others = otherMethods(explained, maps.all);
  if (maps.all.length === 0 && others.length === 0) return null;
  return (
    <MapBar maps={maps}>
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
      {maps.requested?.phase === "running" && (
        <button type="button" className={ButtonLook} onClick={maps.stop}>
          <Icon name="stop" size={18} />
          {t("map.stop")}
        </button>
      )}
    </MapBar>
  );
}
