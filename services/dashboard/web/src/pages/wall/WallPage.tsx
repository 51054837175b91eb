import { useEffect } from "react";
import { useSearchParams } from "react-router";
import type { Wall } from "../../api/types";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import { HeaderTools } from "../../components/HeaderTools";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { lineOf } from "../../lines/state";
import { useLive, useLiveStore, useServerNow } from "../../live/hooks";
import { FigureBand } from "./FigureBand";
import { LineSection } from "./LineSection";
import styles from "./WallPage.module.css";

export function WallPage() {
  const { t } = useI18n();
  const live = useLive();
  const store = useLiveStore();
  const [search] = useSearchParams();
  const line = search.get("line");
  useEffect(() => store.showLine(line), [store, line]);
  useEffect(() => {
    document.title = `${t("wall.title")} · ${t("app.name")}`;
  }, [t]);
  useFreezeKey();
  const wall = live.frozen ?? live.wall;
  if (!wall) {
    if (live.phase !== "lost") return <Message title={t("wall.loading")} />;
    return <Message title={t("wall.offline.title")} text={t("wall.offline.text")} />;
  }
  return (
    <div className={styles["page"]} data-frozen={live.frozen !== null} data-old={live.phase === "lost"}>
      <h1 className="visually-hidden">{t("wall.title")}</h1>
      <WallTools wall={wall} />
      {wall.lines.length === 0 ? (
        <Message title={t("wall.empty.title")} text={t("wall.empty.text")} />
      ) : (
        <WallContent wall={wall} />
      )}
    </div>
  );
}

function WallContent({ wall }: { wall: Wall }) {
  const live = useLive();
  const serverNowMs = useServerNow();
  const nowMs = live.frozen ? live.frozen.at_ms : serverNowMs;
  const cameras = wall.lines.reduce((count, line) => count + line.cameras.length, 0);
  return (
    <div className={styles["content"]}>
      <FigureBand wall={wall} roomy={cameras <= 2} />
      {wall.lines.map((line) => (
        <LineSection key={line.line_id} line={line} nowMs={nowMs} staleS={wall.stale_s} roomy={cameras <= 2}
          heading={wall.lines.length > 1 || line.cameras.length > 1 || lineOf(live.lines, line.line_id) !== null} />
      ))}
    </div>
  );
}

function WallTools({ wall }: { wall: Wall }) {
  const { t, format } = useI18n();
  const live = useLive();
  const store = useLiveStore();
  const missed = live.frozen && live.wall ? live.wall.figures.seen - live.frozen.figures.seen : 0;
  return (
    <HeaderTools>
      {live.frozen && (
        <span className={styles["frozen"]} role="status">
          <Icon name="pause" size={18} />
          {t("wall.frozen", { time: format.clock(live.frozen.at_ms) })}
          {missed > 0 && <span aria-live="off">· {t("wall.frozen.missed", { count: format.count(missed) })}</span>}
        </span>
      )}
      <LineFilter wall={wall} />
      {wall.lines.length > 0 &&
          (live.frozen ? (
            <button type="button" className={StrongButtonLook} aria-label={t("wall.resume")} onClick={() => store.resume()}>
              <Icon name="play" size={18} />
              <span className={styles["wide"]}>{t("wall.resume")}</span>
            </button>
          ) : (
            <button type="button" className={ButtonLook} aria-label={t("wall.freeze")} title={t("wall.freeze.hint")}
              onClick={() => store.freeze()}>
              <Icon name="pause" size={18} />
              <span className={styles["wide"]}>{t("wall.freeze")}</span>
            </button>
        ))}
    </HeaderTools>
  );
}

function LineFilter({ wall }: { wall: Wall }) {
  const { t } = useI18n();
  const [search, setSearch] = useSearchParams();
  const chosen = search.get("line");
  if (chosen === null && wall.lines.length < 2) return null;
  const names = [...new Set([...(chosen === null ? [] : [chosen]), ...wall.lines.map((line) => line.line_id)])].sort();
  return (
    <select className={styles["select"]} aria-label={t("wall.line_filter")} value={chosen ?? ""}
      onChange={(event) => setSearch(event.target.value === "" ? {} : { line: event.target.value })}>
      <option value="">{t("wall.all_lines")}</option>
      {names.map((name) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

function useFreezeKey(): void {
  const store = useLiveStore();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "f" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return;
      if (store.read().frozen) store.resume();
      else store.freeze();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [store]);
}
