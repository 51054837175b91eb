import { useEffect, useRef } from "react";
import { useSearchParams } from "react-router";
import { statisticsUrl, type StatisticsQuery } from "../../api/client";
import type { Problem, Shifts, Statistics, StatisticsGroup } from "../../api/types";
import { ButtonLook } from "../../components/Button";
import { Message } from "../../components/Message";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { Bars } from "./Bars";
import { Charts } from "./Charts";
import { Filters, GROUPS, type Choice } from "./Filters";
import { FigureTable } from "./FigureTable";
import { isEmpty } from "./figures";
import { Headline } from "./Headline";
import { fromField, isRange, spanFor, windowOf, type Window } from "./range";
import styles from "./StatisticsPage.module.css";
import { useHalfMinute, useShifts, useStatistics, type Answer } from "./useStatistics";

/** How the line did over time. What is chosen stands in the address, so that it can be sent to somebody. */
export function StatisticsPage() {
  const { t } = useI18n();
  const [choice, setChoice] = useChoice();
  const halfMinute = useHalfMinute();
  const shifts = useShifts(halfMinute / 2);
  // The end of the half minute: the newest counts lie within.
  const window = windowOf(choice.range, (halfMinute + 1) * 30_000, shifts.value, ownWindow(choice));
  const query = window && queryOf(choice, window, choice.group);
  const table = useStatistics(query);
  const curve = useStatistics(query && { ...query, group: "span", spanS: spanFor(query) });
  const cameras = useStatistics(window && { ...window, group: "camera" });
  const products = useStatistics(window && { ...window, group: "product" });
  useEffect(() => {
    document.title = `${t("stats.title")} · ${t("app.name")}`;
  }, [t]);
  const problem = table.problem ?? shifts.problem;
  if (problem?.reason === "no_feedback") {
    return <Message title={t("stats.no_feedback.title")} text={t("stats.no_feedback.text")} />;
  }
  return (
    <div className={styles["page"]}>
      <h1 className="visually-hidden">{t("stats.title")}</h1>
      <Filters choice={choice} onChange={setChoice} shifts={shifts.value} cameras={cameras.value?.rows ?? []}
        products={products.value?.rows ?? []}>
        {query && table.value && (
          <a className={ButtonLook} href={statisticsUrl(query, true)} download>
            {t("stats.csv")}
          </a>
        )}
      </Filters>
      {!window && shifts.value ? (
        <Message title={t("stats.choose.title")} text={t("stats.choose.text")} />
      ) : (
        <Content table={table} curve={curve} problem={problem} shifts={shifts.value} />
      )}
    </div>
  );
}

interface ContentProps {
  table: Answer<Statistics>;
  curve: Answer<Statistics>;
  problem: Problem | null;
  shifts: Shifts | null;
}

function Content({ table, curve, problem, shifts }: ContentProps) {
  const { t, format } = useI18n();
  const statistics = table.value;
  if (problem?.reason === "invalid_input") return <Message title={t("stats.refused.title")} text={problem.message} />;
  if (!statistics) {
    if (problem) return <Message title={t("stats.away.title")} text={t("stats.away.text")} />;
    return <Message title={t("stats.loading")} />;
  }
  if (isEmpty(statistics)) {
    return <Message title={t("stats.empty.title")} text={t("stats.empty.text", { since: format.day(statistics.kept_since_ms) })} />;
  }
  const since = format.dayAndMinute(statistics.since_ms);
  const until = format.dayAndMinute(statistics.until_ms);
  return (
    <>
      {problem && (
        <p className={styles["old"]} role="status">
          {t("stats.old", { time: format.clock(table.atMs) })}
        </p>
      )}
      <Headline row={statistics.total} />
      <div className={styles["pair"]}>
        {curve.value && <Charts curve={curve.value} nowMs={curve.atMs} />}
        <Bars statistics={statistics} />
      </div>
      <Panel title={t("stats.table")}>
        <FigureTable statistics={statistics} />
        <p className={styles["window"]}>{t("stats.window", { since, until, zone: shifts?.time_zone ?? t("stats.unknown") })}</p>
      </Panel>
    </>
  );
}

function queryOf(choice: Choice, window: Window, group: StatisticsGroup): StatisticsQuery {
  return { ...window, group, line: choice.line, camera: choice.camera, product: choice.product };
}

function ownWindow(choice: Choice): Window | null {
  const sinceMs = fromField(choice.since);
  const untilMs = fromField(choice.until);
  return sinceMs === null || untilMs === null ? null : { sinceMs, untilMs };
}

function useChoice(): [Choice, (change: Partial<Choice>) => void] {
  const [search, setSearch] = useSearchParams();
  const range = search.get("range");
  const group = search.get("group");
  const choice: Choice = {
    range: isRange(range) ? range : "24h",
    group: GROUPS.find((one) => one === group) ?? "camera",
    line: search.get("line") ?? "",
    camera: search.get("camera") ?? "",
    product: search.get("product") ?? "",
    since: search.get("since") ?? "",
    until: search.get("until") ?? "",
  };
  // The address follows a moment later: of two changes in quick succession the second must know of the first.
  const latest = useRef(choice);
  useEffect(() => {
    latest.current = choice;
  });
  const change = (some: Partial<Choice>) => {
    latest.current = { ...latest.current, ...some };
    setSearch(Object.entries(latest.current).filter(([, value]) => value !== ""), { replace: true });
  };
  return [choice, change];
}
