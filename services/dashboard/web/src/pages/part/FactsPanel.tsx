import type { Part } from "../../api/types";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { Facts, type Fact } from "./Facts";

export function FactsPanel({ part }: { part: Part }) {
  const { t, format } = useI18n();
  const { inspection } = part;
  const model =
    inspection.model_version === 0
      ? t("model.none")
      : t("model.version", { alias: inspection.alias, version: inspection.model_version });
  const facts: Fact[] = [
    { name: t("fact.part"), value: inspection.part_id, code: true },
    { name: t("fact.frame"), value: inspection.frame_id, code: true },
    { name: t("fact.line"), value: inspection.line_id },
    { name: t("fact.camera"), value: inspection.camera_id },
    { name: t("fact.product"), value: inspection.product },
    { name: t("fact.sequence"), value: format.count(inspection.sequence) },
    { name: t("fact.captured"), value: format.stamp(inspection.captured_at_ms) },
    { name: t("fact.decided"), value: format.stamp(inspection.decided_at_ms) },
    { name: t("fact.model"), value: model },
  ];
  if (part.trace_id) facts.push({ name: t("fact.trace"), value: part.trace_id, code: true });
  return (
    <Panel title={t("panel.facts")}>
      <Facts facts={facts} />
    </Panel>
  );
}
