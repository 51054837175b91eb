import { useEffect } from "react";
import { Link } from "react-router";
import type { LineNow, LinesNow } from "../../api/lines";
import { ButtonLook } from "../../components/Button";
import { Message } from "../../components/Message";
import { LightPill } from "../../components/StackLight";
import { useI18n } from "../../i18n";
import { linePath, shownLight } from "../../lines/state";
import { causeText } from "../../lines/words";
import { useLive, useServerNow } from "../../live/hooks";
import { AwayNote } from "./LinePage";
import styles from "./LinePage.module.css";

/** Every line that the outcome service speaks for, with its light and why. */
export function LinesPage() {
  const { t } = useI18n();
  const { lines, phase } = useLive();
  useEffect(() => {
    document.title = `${t("nav.lines")} · ${t("app.name")}`;
  }, [t]);
  if (lines === null && phase !== "open") return <Message title={t("line.loading")} />;
  if (lines === null || lines.lines.length === 0) {
    const kind = lines === null ? "off" : lines.away ? "away" : lines.known ? "none" : null;
    if (kind === null) return <Message title={t("line.loading")} />;
    return (
      <Message title={t(`line.${kind}.title`)} text={t(`line.${kind}.text`)}>
        <Link className={ButtonLook} to="/">
          {t("app.to_wall")}
        </Link>
      </Message>
    );
  }
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("nav.lines")}</h1>
      </header>
      <AwayNote lines={lines} />
      <ul className={styles["lines"]}>
        {lines.lines.map((line) => (
          <li key={line.line_id}>
            <Card lines={lines} line={line} isLost={phase === "lost"} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function Card({ lines, line, isLost }: { lines: LinesNow; line: LineNow; isLost: boolean }) {
  const { t, format } = useI18n();
  const nowMs = useServerNow();
  const light = shownLight(lines, line, isLost);
  const [gravest] = line.causes;
  const newest = line.newest?.revisions[0]?.decided_at_ms;
  const { passed, failed, reviewed, late } = line.counts;
  const counts = [
    `${format.count(passed)} ${t("line.counts.pass")}`,
    `${format.count(failed)} ${t("line.counts.fail")}`,
    `${format.count(reviewed)} ${t("line.counts.review")}`,
    `${format.count(late)} ${t("line.counts.late")}`,
  ];
  return (
    <Link className={styles["card"]} data-light={light ?? "none"} data-testid={`line-${line.line_id}`} to={linePath(line.line_id)}>
      <h2>
        {line.line_id}
        <LightPill lineId={line.line_id} light={light} />
      </h2>
      <p>{gravest ? causeText(gravest, line.alarms, t) : t(`light.${light ?? "none"}.means`)}</p>
      <p className={styles["quiet"]}>
        {t("line.counts", { minutes: format.minutes(line.counts.window_s) })}: {counts.join(" · ")}
      </p>
      <p className={styles["quiet"]}>
        {newest === undefined ? t("line.newest.none") : t("line.newest", { age: format.age((nowMs - newest) / 1000) })}
      </p>
    </Link>
  );
}
