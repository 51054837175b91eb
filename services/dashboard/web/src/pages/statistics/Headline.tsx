import type { StatisticsRow } from "../../api/types";
import { useI18n } from "../../i18n";
import { share } from "./figures";
import styles from "./Headline.module.css";

/** The six figures, each with what it means. */
export function Headline({ row }: { row: StatisticsRow }) {
  const { t, format } = useI18n();
  const count = format.count;
  return (
    <dl className={styles["figures"]}>
      <Figure name="inspections" value={count(row.inspections)} detail={t("stats.inspections.detail", { late: count(row.late) })} />
      <Figure name="defect_rate" value={share(row.defect_rate, t, format)} detail={t("stats.defect_rate.detail", { count: count(row.failed) })} />
      <Figure name="first_pass_yield" value={share(row.first_pass_yield, t, format)}
        detail={t("stats.first_pass_yield.detail", { count: count(row.passed), review: count(row.review) })} />
      <Figure name="false_rejects" value={row.fails_reviewed > 0 ? count(row.false_rejects) : t("stats.unknown")}
        detail={t("stats.false_rejects.detail", { count: count(row.fails_reviewed) })} />
      <Figure name="escapes" value={row.reviewed > 0 ? count(row.escapes) : t("stats.unknown")}
        detail={t("stats.escapes.detail", { count: count(row.reviewed) })} />
      <EscapeRate row={row} />
    </dl>
  );
}

function EscapeRate({ row }: { row: StatisticsRow }) {
  const { t, format } = useI18n();
  const { rate, low, high, reviewed, drawn, covered, undecided } = row.audit;
  if (rate === null || low === null || high === null) {
    return <Figure name="escape_rate" value={t("stats.unknown")} detail={t("stats.escape_rate.none", { drawn: format.count(drawn) })} />;
  }
  const values = { low: format.percentRare(low), high: format.percentRare(high), count: format.count(reviewed) };
  const more = [
    ...(covered !== null && covered < 0.995 ? [t("stats.escape_rate.covered", { share: format.percentWhole(covered) })] : []),
    ...(undecided > 0 ? [t("stats.escape_rate.undecided", { count: format.count(undecided) })] : []),
  ];
  return (
    <Figure name="escape_rate" value={format.percentRare(rate)} detail={t("stats.escape_rate.detail", values)} more={more.join(" ")} />
  );
}

interface FigureProps {
  name: "inspections" | "defect_rate" | "first_pass_yield" | "false_rejects" | "escapes" | "escape_rate";
  value: string;
  detail: string;
  more?: string;
}

function Figure({ name, value, detail, more = "" }: FigureProps) {
  const { t } = useI18n();
  return (
    <div className={styles["figure"]} data-figure={name}>
      <dt>{t(`stats.${name}`)}</dt>
      <dd>
        <span className={styles["value"]}>{value}</span>
        <span className={styles["detail"]}>{detail}</span>
        <span className={styles["means"]}>
          {t(`stats.${name}.means`)} {more}
        </span>
      </dd>
    </div>
  );
}
