import type { Alias, ModelVersion } from "../../api/models";
import type { Problem } from "../../api/types";
import { CopyCommand } from "../../components/CopyCommand";
import { useI18n, type Translate } from "../../i18n";
import { roleOf } from "../../models/versions";
import { useVersion } from "../../models/useVersion";
import { Figure } from "./Figure";
import styles from "./VersionCard.module.css";

const SHOWN = ["escape_rate", "false_reject_rate", "auroc"];

/** One version: what part it plays, what it was made from, and what it was measured at. */
export function VersionCard({ alias, version }: { alias: Alias; version: number }) {
  const { t, format } = useI18n();
  const { value, problem } = useVersion(alias.alias, version);
  const role = roleOf(alias, version);
  return (
    <li className={styles["card"]} data-role={role} data-testid={`version-${version}`}>
      <header>
        <h4>{t("models.version", { version })}</h4>
        <span className={styles["role"]} data-role={role}>{t(`models.role.${role}`)}</span>
        {value && <time className={styles["made"]}>{t("models.made", { time: format.since(value.created_at_ms) })}</time>}
      </header>
      {value ? <Told version={value} /> : <p className={styles["quiet"]}>{problemText(problem, t)}</p>}
      {(role === "candidate" || role === "shadow") && (
        <CopyCommand label={t("models.command.promote")}
          command={`sightline models promote ${version} --alias ${alias.alias}`} />
      )}
    </li>
  );
}

function problemText(problem: Problem | null, t: Translate): string {
  if (problem === null) return t("models.version.loading");
  if (problem.reason === "not_found") return t("models.version.not_found");
  if (problem.reason === "model_format") return t("models.version.model_format", { reason: problem.message });
  return t("models.version.unavailable");
}

function Told({ version }: { version: ModelVersion }) {
  const { t, format } = useI18n();
  const { lineage, calibration } = version;
  const promise = t(calibration.confidence > 0 ? `models.promise.${calibration.rule}` : `models.promise.average.${calibration.rule}`, {
    target: format.percent(calibration.target),
    confidence: format.percentWhole(calibration.confidence),
  });
  return (
    <>
      <p className={styles["lineage"]}>
        {t("models.lineage", {
          train: format.count(lineage.n_train),
          source: lineage.description || lineage.source,
          parent: lineage.parent ? t("models.lineage.parent", { parent: lineage.parent }) : "",
          calibration: format.count(lineage.n_calibration),
          holdout: format.count(lineage.n_holdout),
        })}{" "}
        {promise}
      </p>
      <dl className={styles["figures"]}>
        {SHOWN.flatMap((name) => {
          const metric = version.metrics[name];
          return metric ? [<Figure key={name} name={name} metric={metric} />] : [];
        })}
      </dl>
    </>
  );
}
