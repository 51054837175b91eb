import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { PartThumb } from "../../components/PartThumb";
import { useI18n } from "../../i18n";
import styles from "./ViewsPanel.module.css";

export function ViewsPanel({ part }: { part: Part }) {
  const { t } = useI18n();
  return (
    <Panel title={t("panel.views")}>
      {part.views.length === 0 ? (
        <p className={styles["none"]}>{t("panel.views.none")}</p>
      ) : (
        <ul className={styles["views"]}>
          {part.views.map((view) => (
            <li key={view.frame_id}>
              <PartThumb part={view} size="large" />
              <span>{view.camera_id}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
