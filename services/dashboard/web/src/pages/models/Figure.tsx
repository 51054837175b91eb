import type { Metric } from "../../api/models";
import { hasMessage, useI18n } from "../../i18n";
import type { Formats } from "../../i18n/format";
import { isRate } from "../../models/versions";

/** A measured figure with its interval, as a row of a description list. */
export function Figure({ name, metric }: { name: string; metric: Metric }) {
  const { t, format } = useI18n();
  return (
    <div>
      <dt>{useFigureName(name)}</dt>
      <dd>
        <strong>{figureText(name, metric.value, format)}</strong>{" "}
        <small>
          {t("models.compare.interval", {
            low: figureText(name, metric.low, format),
            high: figureText(name, metric.high, format),
          })}
        </small>
      </dd>
    </div>
  );
}

/** A figure that this release has no words for is called by its own name. */
export function useFigureName(name: string): string {
  const { t } = useI18n();
  const key = `models.metric.${name}`;
  return hasMessage(key) ? t(key) : name;
}

export function figureText(name: string, value: number, format: Formats): string {
  return isRate(name) ? format.percent(value) : format.fine(value);
}
