import { useCallback, useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { fetchOutcomes, type Light, type LineNow, type LinesNow } from "../../api/lines";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { lineOf, shownLight } from "../../lines/state";
import { useLive } from "../../live/hooks";
import { useAsked } from "../../models/useAsked";
import { AlarmPanel } from "./AlarmPanel";
import { ConnectionPanel } from "./ConnectionPanel";
import { CyclePanel } from "./CyclePanel";
import { EventPanel } from "./EventPanel";
import { LightPanel } from "./LightPanel";
import styles from "./LinePage.module.css";
import { OutcomeList } from "./OutcomeList";
import { ReferencePanel } from "./ReferencePanel";

const EVERY_MS = 1_500;
const PAGE = 25;
const MOST = 200;

/** One line: its light and why, what it is told, and how long that takes. */
export function LinePage() {
  const { t } = useI18n();
  const { lineId = "" } = useParams();
  const { lines, phase } = useLive();
  const line = lineOf(lines, lineId);
  useEffect(() => {
    document.title = `${t("line.title", { line: lineId })} · ${t("app.name")}`;
  }, [t, lineId]);
  const message = missing(lines, line);
  if (message === "off" && phase !== "open") return <Message title={t("line.loading")} />;
  if (message === "loading") return <Message title={t("line.loading")} />;
  if (message !== null) {
    return (
      <Message title={t(`line.${message}.title`, { line: lineId })} text={t(`line.${message}.text`)}>
        <Link className={ButtonLook} to="/">
          {t("app.to_wall")}
        </Link>
      </Message>
    );
  }
  if (!lines || !line) return null;
  return <LoadedLine key={lineId} lines={lines} line={line} light={shownLight(lines, line, phase === "lost")} />;
}

/** Why a line cannot be shown; null where it can. */
function missing(lines: LinesNow | null, line: LineNow | null): "off" | "away" | "gone" | "loading" | null {
  if (lines === null) return "off";
  if (line !== null) return null;
  if (lines.away !== null) return "away";
  return lines.known ? "gone" : "loading";
}

function LoadedLine({ lines, line, light }: { lines: LinesNow; line: LineNow; light: Light | null }) {
  const { t } = useI18n();
  const [limit, setLimit] = useState(PAGE);
  const ask = useCallback((signal: AbortSignal) => fetchOutcomes(line.line_id, limit, signal), [line.line_id, limit]);
  const { value, problem } = useAsked(ask, EVERY_MS);
  const [kept, setKept] = useState(value);
  if (value !== null && value !== kept) setKept(value);
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("line.title", { line: line.line_id })}</h1>
        <dl>
          <div>
            <dt>{t("line.product")}</dt>
            <dd>{line.product || t("line.unknown")}</dd>
          </div>
          {line.lot && (
            <div>
              <dt>{t("line.lot")}</dt>
              <dd>{line.lot}</dd>
            </div>
          )}
        </dl>
        <nav aria-label={t("nav.lines")}>
          {lines.lines.length > 1 && (
            <Link className={ButtonLook} to="/lines">
              <Icon name="list" size={18} />
              {t("line.to_list")}
            </Link>
          )}
          <Link className={ButtonLook} to={`/?line=${encodeURIComponent(line.line_id)}`}>
            {t("line.to_wall")}
          </Link>
        </nav>
      </header>
      <AwayNote lines={lines} />
      <div className={styles["columns"]}>
        <div className={styles["side"]}>
          <LightPanel line={line} light={light} />
          <AlarmPanel line={line} />
          <ConnectionPanel line={line} />
          <ReferencePanel line={line} />
        </div>
        <div className={styles["main"]}>
          <CyclePanel outcomes={kept} />
          <OutcomeList outcomes={kept} problem={problem}
            onMore={!kept?.next || limit >= MOST ? null : () => setLimit(Math.min(MOST, limit + PAGE))} />
          <EventPanel lineId={line.line_id} />
        </div>
      </div>
    </div>
  );
}

/** Says that what is shown is old, where it is. */
export function AwayNote({ lines }: { lines: LinesNow }) {
  const { t, format } = useI18n();
  if (lines.away === null) return null;
  return (
    <p className={styles["note"]} role="status" data-testid="away">
      {t("line.away", { time: format.since(lines.away.since_ms) })}
    </p>
  );
}
