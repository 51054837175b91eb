import { Link, NavLink } from "react-router";
import { useI18n } from "../i18n";
import { useStation } from "../review/hooks";
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
        <ReviewLink />
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

/** The way to the reviews, with how many wait; the number stays away where nobody reviews in this browser. */
function ReviewLink() {
  const { t, format } = useI18n();
  const { stats } = useStation();
  const open = stats?.open ?? 0;
  return (
    <NavLink to="/review">
      <span>
        {t("nav.review")}
        {open > 0 && (
          <span className={styles["count"]} aria-label={t("nav.review.open", { count: format.count(open) })} role="img">
            {format.count(open)}
          </span>
        )}
      </span>
    </NavLink>
  );
}
