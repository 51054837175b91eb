import { useEffect, type ReactNode } from "react";
import { signOut } from "../../api/access";
import { useAccountState } from "../../access/hooks";
import { ButtonLook } from "../../components/Button";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import styles from "./AccessGate.module.css";
import { SignInForm } from "./SignInForm";

/** Lets nobody see a page who is not signed in, where somebody has to be. */
export function AccessGate({ children }: { children: ReactNode }) {
  const { t } = useI18n();
  const { session, lost } = useAccountState();
  if (session === null) return <Message title={t("access.loading")} />;
  if (session.sign_in !== "none" && session.person === null) return <SignInPage />;
  return (
    <>
      {/* What was begun stays in its place, unseen, until its owner is back. */}
      <div className={styles["app"]} data-lost={lost} inert={lost}>
        {children}
      </div>
      {lost && <LostSession name={session.person?.name ?? ""} />}
    </>
  );
}

function SignInPage() {
  const { t, language, setLanguage } = useI18n();
  useEffect(() => {
    document.title = `${t("access.title")} · ${t("app.name")}`;
  }, [t]);
  return (
    <main className={styles["page"]}>
      <SignInForm title={t("access.title")} text={t("access.text")} />
      <button type="button" className={ButtonLook} onClick={() => setLanguage(language === "en" ? "de" : "en")}>
        {t("language.switch")}
      </button>
    </main>
  );
}

function LostSession({ name }: { name: string }) {
  const { t } = useI18n();
  useEffect(() => {
    // Keys are for the form: what lies under it must not take a password for answers.
    const swallow = (event: KeyboardEvent) => event.stopImmediatePropagation();
    addEventListener("keydown", swallow, { capture: true });
    return () => removeEventListener("keydown", swallow, { capture: true });
  }, []);
  useEffect(() => {
    const { activeElement } = document;
    // Not before the page can have it again.
    return () => void setTimeout(() => activeElement instanceof HTMLElement && activeElement.focus({ preventScroll: true }));
  }, []);
  return (
    <div className={styles["lost"]} role="dialog" aria-modal="true" aria-label={t("access.lost.title")} data-testid="session-lost">
      <SignInForm title={t("access.lost.title")} text={t("access.lost.text", { name })} name={name} />
      <p className={styles["other"]}>
        {t("access.other")}
        <button type="button" className={ButtonLook} onClick={() => void signOut().catch(() => undefined).then(() => location.assign("/"))}>
          {t("access.other.leave")}
        </button>
      </p>
    </div>
  );
}
