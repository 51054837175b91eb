import { useEffect, useId, useRef, type ReactNode } from "react";
import { IconButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useI18n } from "../../i18n";
import styles from "./Modal.module.css";

/** A dialog over the page; Escape closes it, and what had the keyboard before has it again. */
export function Modal({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  const { t } = useI18n();
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog ref={dialog} className={styles["modal"]} aria-labelledby={id} onCancel={(event) => {
      event.preventDefault();
      onClose();
    }}>
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" className={IconButtonLook} aria-label={t("gallery.close")} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  );
}
