import { useId, useRef, type MouseEvent } from "react";
import { Link, NavLink, useLocation } from "react-router";
import { useI18n } from "../i18n";
import { linesPath } from "../lines/state";
import { useLive } from "../live/hooks";
import { useStation } from "../review/hooks";
import { useTheme } from "../theme/theme";
import { useNewChange } from "../models/watch";
import styles from "./AppHeader.module.css";
import { PersonMenu } from "../pages/access/PersonMenu";
import { IconButtonLook } from "./Button";
import { ConnectionPill } from "./ConnectionPill";
import { HeaderToolsSlot } from "./HeaderTools";
import { Icon } from "./Icon";
import { NewMark } from "./NewMark";
import { useDismiss } from "./useDismiss";

export function AppHeader() {
  const { t, language, setLanguage } = useI18n();
  const [theme, setTheme] = useTheme();
  const themeLabel = t(theme === "dark" ? "theme.to_light" : "theme.to_dark");
  return (
    <header className={styles["header"]}>
      <Link className={styles["brand"]} to="/">
        <img src="/icon.svg" width="30" height="30" alt="" />
        <span>{t("app.name")}</span>
      </Link>
      <Navigation />
      <div className={styles["state"]}>
        <ConnectionPill />
      </div>
      <HeaderToolsSlot className={styles["page"]} />
      <div className={styles["tools"]}>
        <PersonMenu />
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

/** The ways to the pages; on a phone behind a button. */
function Navigation() {
  const { t } = useI18n();
  const wrap = useRef<HTMLDivElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useDismiss(wrap, opener);
  const id = useId();
  const { pathname } = useLocation();
  const onPick = (event: MouseEvent) => {
    if (!(event.target instanceof Element) || !event.target.closest("a")) return;
    setOpen(false);
    // Another page takes the keyboard itself; the one that is open already does not.
    if (event.target.closest("a")?.pathname === pathname) opener.current?.focus();
  };
  return (
    <div className={styles["menu"]} ref={wrap}>
      <button type="button" ref={opener} className={IconButtonLook} aria-label={t("nav.menu")} aria-expanded={open} aria-controls={id}
        onClick={() => setOpen(!open)}>
        <Icon name={open ? "close" : "menu"} size={24} />
      </button>
      {/* Its links are what is pressed; a press on one of them also closes the menu. */}
      {/* eslint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-noninteractive-element-interactions */}
      <nav id={id} className={styles["nav"]} data-open={open} aria-label={t("nav.label")} onClick={onPick}>
        <NavLink to="/" end>
          {t("nav.wall")}
        </NavLink>
        <LinesLink />
        <ReviewLink />
        <NavLink to="/gallery">{t("gallery.title")}</NavLink>
        <NavLink to="/statistics">{t("nav.statistics")}</NavLink>
        <ModelsLink />
        <NavLink to="/training">{t("nav.training")}</NavLink>
      </nav>
    </div>
  );
}

/** The way to the lines; not there where no outcome service is set. */
function LinesLink() {
  const { t } = useI18n();
  const { lines } = useLive();
  if (!lines?.offered) return null;
  const path = linesPath(lines);
  return <NavLink to={path}>{t(path === "/lines" ? "nav.lines" : "nav.line")}</NavLink>;
}

/** The way to the models, with a mark where a new one came since the last look. */
function ModelsLink() {
  const { t } = useI18n();
  const news = useNewChange();
  return (
    <NavLink to="/models">
      <span>
        {t("nav.models")}
        {news && <NewMark />}
      </span>
    </NavLink>
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
