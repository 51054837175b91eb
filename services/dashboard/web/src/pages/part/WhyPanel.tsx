import type { Explanation, Part } from "../../api/types";
import { GradeMark } from "../../components/GradeMark";
import { Panel } from "../../components/Panel";
import { useI18n, type Translate } from "../../i18n";
import { Facts, type Fact } from "./Facts";
import { found, methodName, together, whyNoMap } from "../../components/mapWords";
import { findingOf } from "../../components/maps";
import type { Maps } from "./useMaps";
import type { RequestedMap } from "./useRequestedMap";
import styles from "./WhyPanel.module.css";

/** Where the model sees the reason, and how far to trust that. */
export function WhyPanel({ part, maps }: { part: Part; maps: Maps }) {
  const { t } = useI18n();
  const { explained, explanations } = part;
  const { focus, requested } = maps;
  const unfinished = requested?.phase === "running" ? requested.explanation : null;
  if (explained.state === "no_case" && explained.methods.length === 0 && explanations.length === 0) return null;
  return (
    <Panel title={t("panel.why")}>
      {focus?.has_map && <Judgement explanation={focus} part={part} unfinished={focus === unfinished} />}
      {explained.state !== "explained" && <p className={styles["state"]}>{t(`explained.${explained.state}`)}</p>}
      {explained.state === "explained" && explanations.length === 0 && (
        <p className={styles["state"]}>{t("explained.empty")}</p>
      )}
      <MethodList explanations={explanations} maps={maps} />
      {requested && <Requested requested={requested} />}
      {maps.shown === null && maps.all.length > 0 && maps.all.every((one) => one.explanation.grade === "D") && (
        <p className={styles["state"]}>{t("explained.all_d")}</p>
      )}
      {focus?.has_map && <Figures explanation={focus} atMs={maps.shown?.requested ? null : explained.at_ms} />}
    </Panel>
  );
}

function Judgement({ explanation, part, unfinished }: { explanation: Explanation; part: Part; unfinished: boolean }) {
  const { t, format } = useI18n();
  const { grade, trust } = explanation;
  const calm = findingOf(explanation) === "calm";
  const agreement = together(part.explanations, part.explained.agreement, t, format);
  const title = grade === null ? (unfinished ? "grade.later" : "grade.none") : (`grade.${grade}` as const);
  // "Look there first" needs a "there".
  const flagged = part.inspection.verdict !== "pass";
  const sentence = calm && flagged ? t("found.calm.flagged") : found(explanation, t, format);
  return (
    <>
      <div className={styles["grade"]} data-testid="grade">
        <GradeMark grade={grade} size="large" />
        <div>
          <strong>{t(calm ? "found.calm.title" : title)}</strong>
          <span>{t("grade.of", { method: methodName(explanation.method, t) })}</span>
        </div>
      </div>
      <p className={styles["found"]}>{sentence}</p>
      {explanation.status === "partial" && !unfinished && (
        <p className={styles["found"]}>{t("found.partial", { passes: format.count(explanation.passes) })}</p>
      )}
      {trust !== null && !calm && (
        <p className={styles["quiet"]}>{t("grade.trust", { percent: format.percentWhole(trust) })}</p>
      )}
      {agreement && <p className={styles["quiet"]}>{agreement}</p>}
    </>
  );
}

/** Each method that was tried, with what it cost; or why it gave no map. */
function MethodList({ explanations, maps }: { explanations: Explanation[]; maps: Maps }) {
  const { t } = useI18n();
  if (explanations.length === 0) return null;
  return (
    <ul className={styles["methods"]} aria-label={t("map.methods")}>
      {explanations.map((one) => (
        <li key={one.method} data-shown={maps.shown?.explanation === one}>
          <GradeMark grade={one.grade} />
          <span className={styles["name"]}>{methodName(one.method, t)}</span>
          {one.has_map ? <Cost explanation={one} /> : <span className={styles["refused"]}>{whyNoMap(one, t)}</span>}
        </li>
      ))}
    </ul>
  );
}

function Cost({ explanation }: { explanation: Explanation }) {
  const { t, format } = useI18n();
  return (
    <span className={styles["cost"]}>
      {passesOf(explanation, t, format.count)}
      {explanation.seconds !== null && ` · ${format.milliseconds(explanation.seconds * 1000)}`}
    </span>
  );
}

function Requested({ requested }: { requested: RequestedMap }) {
  const { t, format } = useI18n();
  const { explanation, phase, problem } = requested;
  const name = methodName(requested.method, t);
  const failure = problem ?? (explanation?.status === "failed" ? { ...explanation, message: explanation.detail } : null);
  return (
    <div className={styles["requested"]} data-phase={phase} data-testid="requested-map">
      <strong>{name}</strong>
      {phase === "running" && !explanation && <span role="status">{t("request.waiting")}</span>}
      {phase === "running" && explanation && (
        <span>
          {t("request.refining", { passes: passesOf(explanation, t, format.count) })}
          {explanation.stability !== null && ` · ${t("request.stability", { percent: format.percentWhole(explanation.stability) })}`}
        </span>
      )}
      {phase === "done" && explanation && !failure && (
        <span role="status">
          <Cost explanation={explanation} /> · {t("request.not_kept")}
        </span>
      )}
      {failure && <span role="status">{whyNoMap({ reason: failure.reason, detail: failure.message }, t)}</span>}
    </div>
  );
}

function Figures({ explanation, atMs }: { explanation: Explanation; atMs: number | null }) {
  const { t, format } = useI18n();
  const { scale } = explanation;
  const share = (value: number | null) => (value === null ? t("figure.none") : format.score(value));
  const facts: Fact[] = [
    { name: t("figure.target"), value: explanation.target_class.replaceAll("_", " ") || t("figure.target.score") },
    { name: t("figure.probability"), value: share(explanation.probability) },
    { name: t("figure.stability"), value: share(explanation.stability) },
    { name: t("figure.deletion"), value: share(explanation.deletion_auc) },
    { name: t("figure.insertion"), value: share(explanation.insertion_auc) },
    { name: t("figure.random"), value: share(explanation.random_auc) },
    { name: t("figure.transplant"), value: share(explanation.transplant) },
    { name: t("figure.coverage"), value: share(explanation.coverage) },
    {
      name: t("figure.scale"),
      value:
        scale.calibrated && scale.low !== null && scale.high !== null
          ? t("figure.scale.value", { low: format.score(scale.low), high: format.score(scale.high) })
          : t("figure.scale.none"),
    },
  ];
  if (atMs !== null) facts.push({ name: t("figure.at"), value: format.clock(atMs) });
  return (
    <details className={styles["figures"]}>
      <summary>{t("figure.title", { method: methodName(explanation.method, t) })}</summary>
      <Facts facts={facts} />
    </details>
  );
}

function passesOf(explanation: Explanation, t: Translate, count: (value: number) => string): string {
  return t(explanation.passes === 1 ? "map.pass" : "map.passes", { passes: count(explanation.passes) });
}
