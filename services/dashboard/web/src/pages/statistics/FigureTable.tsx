import type { Statistics, StatisticsRow } from "../../api/types";
import { useI18n } from "../../i18n";
import { keyOf, nameOf, share } from "./figures";
import styles from "./FigureTable.module.css";

/** Every figure of every group, as charts and bars show them in part. */
export function FigureTable({ statistics }: { statistics: Statistics }) {
  const { t, format } = useI18n();
  const withLine = statistics.group === "camera";
  return (
    // A region that scrolls must be reachable by keys.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={styles["scroll"]} role="group" aria-label={t("stats.table")} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("stats.table.group")}</th>
            {withLine && <th scope="col">{t("stats.line")}</th>}
            <th scope="col">{t("stats.inspections")}</th>
            <th scope="col">{t("stats.table.pass")}</th>
            <th scope="col">{t("stats.table.fail")}</th>
            <th scope="col">{t("stats.table.review")}</th>
            <th scope="col">{t("stats.table.late")}</th>
            <th scope="col">{t("stats.defect_rate")}</th>
            <th scope="col">{t("stats.first_pass_yield")}</th>
            <th scope="col">{t("stats.table.reviewed")}</th>
            <th scope="col">{t("stats.false_rejects")}</th>
            <th scope="col">{t("stats.escapes")}</th>
            <th scope="col">{t("stats.table.wrong_reasons")}</th>
            <th scope="col">{t("stats.table.audit")}</th>
            <th scope="col">{t("stats.escape_rate")}</th>
          </tr>
        </thead>
        <tbody>
          {statistics.rows.map((row) => (
            <tr key={keyOf(row)}>
              <th scope="row">{nameOf(row, statistics.group, t, format)}</th>
              {withLine && <td className={styles["text"]}>{row.line_id}</td>}
              <Figures row={row} />
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">{t("stats.table.total")}</th>
            {withLine && <td />}
            <Figures row={statistics.total} />
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

function Figures({ row }: { row: StatisticsRow }) {
  const { t, format } = useI18n();
  const { rate, low, high, reviewed, drawn } = row.audit;
  const interval = low === null || high === null ? null : { low: format.percentRare(low), high: format.percentRare(high) };
  return (
    <>
      <td>{format.count(row.inspections)}</td>
      <td>{format.count(row.passed)}</td>
      <td>{format.count(row.failed)}</td>
      <td>{format.count(row.review)}</td>
      <td>{format.count(row.late)}</td>
      <td>{share(row.defect_rate, t, format)}</td>
      <td>{share(row.first_pass_yield, t, format)}</td>
      <td>{format.count(row.reviewed)}</td>
      <td>{row.fails_reviewed > 0 ? format.count(row.false_rejects) : t("stats.unknown")}</td>
      <td>{row.reviewed > 0 ? format.count(row.escapes) : t("stats.unknown")}</td>
      <td>{row.reviewed > 0 ? format.count(row.wrong_reasons) : t("stats.unknown")}</td>
      <td>
        {format.count(reviewed)} / {format.count(drawn)}
      </td>
      <td>{interval && rate !== null ? t("stats.table.interval", { rate: format.percentRare(rate), ...interval }) : t("stats.unknown")}</td>
    </>
  );
}
