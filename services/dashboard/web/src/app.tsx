import { Component, useEffect, useRef, type ReactNode } from "react";
import { Link, Route, Routes, useLocation } from "react-router";
import { useAccountState, useMay } from "./access/hooks";
import styles from "./app.module.css";
import { AlarmBanner } from "./components/AlarmBanner";
import { AppHeader } from "./components/AppHeader";
import { ButtonLook } from "./components/Button";
import { HeaderToolsProvider } from "./components/HeaderTools";
import { Message } from "./components/Message";
import { useI18n } from "./i18n";
import { GalleryPage } from "./pages/gallery/GalleryPage";
import { ChangesPage } from "./pages/changes/ChangesPage";
import { ModelsPage } from "./pages/models/ModelsPage";
import { AuditPage } from "./pages/access/AuditPage";
import { PasswordPage } from "./pages/access/PasswordPage";
import { UsersPage } from "./pages/access/UsersPage";
import { LinePage } from "./pages/line/LinePage";
import { LinesPage } from "./pages/line/LinesPage";
import { PartPage } from "./pages/part/PartPage";
import { ReviewPage } from "./pages/review/ReviewPage";
import { RunPage } from "./pages/training/RunPage";
import { TrainingPage } from "./pages/training/TrainingPage";
import { StatisticsPage } from "./pages/statistics/StatisticsPage";
import { WallPage } from "./pages/wall/WallPage";

export function App() {
  const { t } = useI18n();
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const first = useRef(pathname);
  const mayUsers = useMay("users");
  const mayAudit = useMay("audit");
  const hasPassword = useAccountState().session?.has_password ?? false;
  useEffect(() => {
    // A reader of the screen starts at the new page, not where the old one was left; not on the first load.
    if (first.current === pathname) return;
    first.current = "";
    main.current?.focus({ preventScroll: true });
  }, [pathname]);
  return (
    <HeaderToolsProvider>
      <a className={styles["skip"]} href="#main">
        {t("app.skip")}
      </a>
      <AppHeader />
      <AlarmBanner />
      <main id="main" ref={main} tabIndex={-1} className={styles["main"]}>
        <Boundary at={pathname} fallback={<Crashed />}>
          <Routes>
            <Route path="/" element={<WallPage />} />
            <Route path="/review/:caseId?" element={<ReviewPage />} />
            <Route path="/gallery" element={<GalleryPage />} />
            <Route path="/statistics" element={<StatisticsPage />} />
            <Route path="/models" element={<ModelsPage />} />
            <Route path="/training" element={<TrainingPage />} />
            <Route path="/training/:runId" element={<RunPage />} />
            <Route path="/changes/:alias?/:revision?" element={<ChangesPage />} />
            <Route path="/lines" element={<LinesPage />} />
            <Route path="/line/:lineId" element={<LinePage />} />
            <Route path="/parts/:frameId" element={<PartPage />} />
            {mayUsers && <Route path="/users" element={<UsersPage />} />}
            {mayAudit && <Route path="/audit" element={<AuditPage />} />}
            {hasPassword && <Route path="/password" element={<PasswordPage />} />}
            <Route path="*" element={<NotFound />} />
          </Routes>
        </Boundary>
      </main>
    </HeaderToolsProvider>
  );
}

function NotFound() {
  const { t } = useI18n();
  return (
    <Message title={t("app.not_found.title")} text={t("app.not_found.text")}>
      <Link className={ButtonLook} to="/">
        {t("app.to_wall")}
      </Link>
    </Message>
  );
}

function Crashed() {
  const { t } = useI18n();
  return (
    <Message title={t("app.crashed.title")} text={t("app.crashed.text")}>
      <button type="button" className={ButtonLook} onClick={() => location.reload()}>
        {t("app.reload")}
      </button>
    </Message>
  );
}

interface BoundaryProps {
  children: ReactNode;
  fallback: ReactNode;
  /** Another address is another try. What works keeps its state: how a part is looked at stays from part to part. */
  at: string;
}

class Boundary extends Component<BoundaryProps, { crashed: boolean }> {
  override state = { crashed: false };

  static getDerivedStateFromError() {
    return { crashed: true };
  }

  override componentDidUpdate(before: BoundaryProps) {
    if (this.state.crashed && before.at !== this.props.at) this.setState({ crashed: false });
  }

  override render() {
    return this.state.crashed ? this.props.fallback : this.props.children;
  }
}
