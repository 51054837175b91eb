import { useEffect, useState } from "react";
import { ButtonLook } from "../../components/Button";
import { Icon, type IconName } from "../../components/Icon";
import styles from "./SureButton.module.css";

const SURE_MS = 6_000;

interface SureButtonProps {
  icon: IconName;
  text: string;
  /** What it says after the first press. */
  sure: string;
  disabled: boolean;
  onSure: () => void;
}

/** Two presses do it; one alone, or a slip of the finger, does nothing. */
export function SureButton({ icon, text, sure, disabled, onSure }: SureButtonProps) {
  const [asking, setAsking] = useState(false);
  useEffect(() => {
    if (!asking) return;
    const timer = setTimeout(() => setAsking(false), SURE_MS);
    return () => clearTimeout(timer);
  }, [asking]);
  const press = () => {
    if (asking) onSure();
    setAsking(!asking);
  };
  return (
    <button type="button" className={`${ButtonLook} ${styles["sure"]}`} data-sure={asking} disabled={disabled} onClick={press}>
      <Icon name={icon} size={18} />
      {asking ? sure : text}
    </button>
  );
}
