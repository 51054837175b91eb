import { Link, NavLink } from "react-router";
import { useI18n } from "../i18n";
import { useTheme } from "../theme/theme";
import styles from "./AppHeader.module.css";
import { IconButtonLook } from "./Button";
import { ConnectionPill } from "./ConnectionPill";
import { HeaderToolsSlot } from "./HeaderTools";
import { Icon } from "./Icon";

export function AppHeader() {
  const { t, language, setLanguage } = useI18n();
  const [theme, setTheme] = useTheme();
  const themeLabel = t(theme === "dark" ? "theme.to_light" : "theme.to_dark");
  return (
    <header className={styles["header"]}>
      <Link className={styles["brand"]} to="/">
        <img src="/icon.svg" width="30" height="30" alt="" />
        {t("app.name")}
      </Link>
      <nav className={styles["nav"]} aria-label={t("nav.label")}>
        <NavLink to="/" end>
          {t("nav.wall")}
        </NavLink>
      </nav>
      <div className={styles["state"]}>
        <ConnectionPill />
      </div>
      <HeaderToolsSlot className={styles["page"]} />
      <div className={styles["tools"]}>
        <button type="button" className={IconButtonLook} aria-label={t("language.switch")} title={t("language.switch")}
          onClick={() => setLanguage(language === "en" ? "de" : "en")}>
          {t("language.short")}
        </button>
        <button type="button" className={IconButtonLook} aria-label={themeLabel} title={themeLabel}
          onClick={() => setTheme(theme === "dark" ? "light" : "dark")}>
          <Icon name={theme === "dark" ? "sun" : "moon"} />
        </button>
      </div>
    </header>
  );
}
