import { useId, type ReactNode } from "react";
import type { Metric, ModelVersion } from "../../api/models";
import { useI18n } from "../../i18n";
import { inCommon } from "../../models/versions";
import { useVersion } from "../../models/useVersion";
import styles from "./Comparison.module.css";
import { figureText, useFigureName } from "./Figure";

type Pair = [number, number];

/** Two versions side by side: the figures that both have, and what else tells them apart. */
export function Comparison(props: { alias: string; versions: number[]; pair: Pair; onPair: (pair: Pair) => void }) {
  const { t } = useI18n();
  const { alias, versions, pair, onPair } = props;
  const left = useVersion(alias, pair[0]).value;
  const right = useVersion(alias, pair[1]).value;
  const id = useId();
  return (
    <section className={styles["comparison"]} aria-labelledby={id} data-testid="comparison">
      <h3 id={id}>{t("models.compare.title")}</h3>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("models.compare.figure")}</th>
            <th scope="col">
              <Choice label={t("models.compare.left")} versions={versions} chosen={pair[0]}
                onChoose={(one) => onPair([one, pair[1]])} />
            </th>
            <th scope="col">
              <Choice label={t("models.compare.right")} versions={versions} chosen={pair[1]}
                onChoose={(one) => onPair([pair[0], one])} />
            </th>
          </tr>
        </thead>
        <tbody>{left && right ? <Rows left={left} right={right} /> : <Row name={t("models.version.loading")} left="" right="" />}</tbody>
      </table>
      <p>{t("models.compare.note")}</p>
    </section>
  );
}

function Choice(props: { label: string; versions: number[]; chosen: number; onChoose: (version: number) => void }) {
  const { t } = useI18n();
  return (
    <select aria-label={props.label} value={props.chosen} onChange={(event) => props.onChoose(Number(event.target.value))}>
      {props.versions.map((version) => (
        <option key={version} value={version}>
          {t("models.version", { version })}
        </option>
      ))}
    </select>
  );
}

function Rows({ left, right }: { left: ModelVersion; right: ModelVersion }) {
  const { t, format } = useI18n();
  const figures = inCommon(left, right);
  const both = (tell: (version: ModelVersion) => string) => ({ left: tell(left), right: tell(right) });
  const facts = {
    threshold: both(({ operating_point: point }) => format.fine(point.threshold)),
    band: both(({ operating_point: point }) =>
      t("models.compare.interval", { low: format.fine(point.review_low), high: format.fine(point.review_high) })),
    network: both((version) => version.architecture),
    classes: both((version) => version.classes.join(", ")),
    preprocessing: both(({ preprocessing: { mode, width_px: width, height_px: height } }) =>
      t("models.fact.preprocessing.value", { mode, width, height })),
    train: both(({ lineage }) => format.count(lineage.n_train)),
    holdout: both(({ lineage }) => format.count(lineage.n_holdout)),
    parent: both(({ lineage }) => lineage.parent || t("models.fact.parent.none")),
    code: both((version) => version.code_version),
    size: both((version) => format.bytes(version.size_bytes)),
  } as const;
  return (
    <>
      {figures.length === 0 && <Row name={t("models.compare.none")} left="" right="" />}
      {figures.map(({ name, left: one, right: other }) => (
        <FigureRow key={name} name={name} left={one} right={other} />
      ))}
      {(Object.keys(facts) as (keyof typeof facts)[]).map((key) => (
        <Row key={key} name={t(`models.fact.${key}`)} {...facts[key]} />
      ))}
    </>
  );
}

function FigureRow({ name, left, right }: { name: string; left: Metric; right: Metric }) {
  return <Row name={useFigureName(name)} left={<Measured name={name} metric={left} />} right={<Measured name={name} metric={right} />} />;
}

function Measured({ name, metric }: { name: string; metric: Metric }) {
  const { t, format } = useI18n();
  const interval = { low: figureText(name, metric.low, format), high: figureText(name, metric.high, format) };
  return (
    <>
      <strong>{figureText(name, metric.value, format)}</strong>
      <small title={t("models.compare.parts", { count: format.count(metric.n) })}>{t("models.compare.interval", interval)}</small>
    </>
  );
}

function Row({ name, left, right }: { name: string; left: ReactNode; right: ReactNode }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{left}</td>
      <td>{right}</td>
    </tr>
  );
}
