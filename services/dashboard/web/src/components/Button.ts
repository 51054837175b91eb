import styles from "./Button.module.css";

/** How buttons, and links that look like one, are dressed. */
export const ButtonLook = styles["button"] ?? "";
export const IconButtonLook = `${styles["button"] ?? ""} ${styles["icon"] ?? ""}`;
export const StrongButtonLook = `${styles["button"] ?? ""} ${styles["strong"] ?? ""}`;
