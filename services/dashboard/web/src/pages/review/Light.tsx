import { useState } from "react";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import styles from "./Light.module.css";

export interface Light {
  brightness: number;
  contrast: number;
  /** As a CSS filter. */
  filter: string;
  set: (change: { brightness?: number; contrast?: number }) => void;
  reset: () => void;
}

const PLAIN = { brightness: 1, contrast: 1 };

/** How the picture is lit; it stays from case to case. */
export function useLight(): Light {
  const [{ brightness, contrast }, setLight] = useState(PLAIN);
  return {
    brightness,
    contrast,
    filter: brightness === 1 && contrast === 1 ? "none" : `brightness(${brightness}) contrast(${contrast})`,
    set: (change) => setLight((now) => ({ ...now, ...change })),
    reset: () => setLight(PLAIN),
  };
}

export function LightPanel({ light }: { light: Light }) {
  const { t, format } = useI18n();
  const plain = light.filter === "none";
  return (
    <section className={styles["panel"]} aria-label={t("review.light")}>
      {(["brightness", "contrast"] as const).map((one) => (
        <label key={one}>
          <span>{t(`review.light.${one}`)}</span>
          <input type="range" min={0.4} max={2.5} step={0.05} value={light[one]} aria-valuetext={format.percentWhole(light[one])}
            onChange={(event) => light.set({ [one]: Number(event.target.value) })} />
        </label>
      ))}
      <button type="button" className={ButtonLook} disabled={plain} onClick={light.reset} aria-label={t("review.light.reset")} title={t("review.light.reset")}>
        <Icon name="light" />
      </button>
    </section>
  );
}
