import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { Facts } from "./Facts";

export function PlacePanel({ part }: { part: Part }) {
  const { t, format } = useI18n();
  const { place } = part;
  if (place.kind === "none") {
    return (
      <Panel title={t("panel.place")}>
        <p>{t("place.none")}</p>
      </Panel>
    );
  }
  const value =
    place.kind === "object"
      ? `${place.bucket}/${place.key}`
      : t("place.record.at", { topic: place.topic, partition: place.partition, offset: place.offset });
  const size = place.kind === "object" ? ` (${format.bytes(place.size_bytes)})` : "";
  return (
    <Panel title={t("panel.place")}>
      <Facts facts={[{ name: `${t(`place.${place.kind}`)}${size}`, value, code: true }]} />
    </Panel>
  );
}
