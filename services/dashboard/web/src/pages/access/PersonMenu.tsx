import { useId, useRef, useState } from "react";
import { Link } from "react-router";
import { useAccount, useAccountState, useMay } from "../../access/hooks";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useDismiss } from "../../components/useDismiss";
import { useI18n } from "../../i18n";
import styles from "./PersonMenu.module.css";

/** Who is signed in, and what they can do about it; nothing where nobody has to sign in. */
export function PersonMenu() {
  const { t } = useI18n();
  const account = useAccount();
  const { session } = useAccountState();
  const mayUsers = useMay("users");
  const mayAudit = useMay("audit");
  const [failed, setFailed] = useState(false);
  const wrap = useRef<HTMLDivElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useDismiss(wrap, opener);
  const panelId = useId();
  const person = session?.person;
  if (!session || !person) return null;
  const role = t(`access.role.${person.role}`);
  const close = () => setOpen(false);
  return (
    <div className={styles["wrap"]} ref={wrap}>
      <button type="button" ref={opener} className={ButtonLook} aria-expanded={open} aria-controls={panelId} data-testid="person"
        aria-label={t("access.menu", { name: person.name, role })} onClick={() => setOpen(!open)}>
        <Icon name="person" size={18} />
        <span className={styles["name"]}>{person.name}</span>
      </button>
      <div id={panelId}>
        {open && (
          <div className={styles["panel"]}>
            <p>
              <b>{person.name}</b>
              <span>{role}</span>
            </p>
            {mayUsers && (
              <Link to="/users" onClick={close}>
                {t("access.menu.users")}
              </Link>
            )}
            {mayAudit && (
              <Link to="/audit" onClick={close}>
                {t("access.menu.audit")}
              </Link>
            )}
            {session.has_password && (
              <Link to="/password" onClick={close}>
                {t("access.menu.password")}
              </Link>
            )}
            <button type="button" onClick={() => void account.signOut().catch(() => setFailed(true))}>
              {t("access.menu.sign_out")}
            </button>
            {failed && <p role="alert">{t("access.sign_out.failed")}</p>}
          </div>
        )}
      </div>
    </div>
  );
}
