import { useCallback, useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { fetchChange, fetchChanges, type Change, type ChangePage } from "../../api/models";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { useI18n } from "../../i18n";
import { useAsked } from "../../models/useAsked";
import { markSeen } from "../../models/watch";
import { useReviewStation, useStation } from "../../review/hooks";
import { NameForm } from "../review/NameForm";
import { ChangeList } from "./ChangeList";
import { ChangeView } from "./ChangeView";
import styles from "./ChangesPage.module.css";

const EVERY_MS = 5_000;
const PAGE = 20;

/** After each new model: the parts that people corrected, before and after. */
export function ChangesPage() {
  const { t } = useI18n();
  const station = useReviewStation();
  const { reviewer } = useStation();
  const { alias, revision } = useParams();
  const [everyone, setEveryone] = useState(false);
  const [naming, setNaming] = useState(false);
  const [limit, setLimit] = useState(PAGE);
  const whose = everyone ? null : reviewer;
  useEffect(() => {
    document.title = `${t("changes.title")} · ${t("app.name")}`;
  }, [t]);
  const ask = useCallback((signal: AbortSignal) => fetchAll(whose, limit, signal), [whose, limit]);
  const { value, problem } = useAsked(ask, EVERY_MS);
  const kept = useKept(value, whose);
  const page = kept?.value ?? null;
  const newest = page?.changes[0];
  useEffect(() => {
    if (newest) markSeen(newest);
  }, [newest]);
  if (naming) {
    return (
      <NameForm name={reviewer ?? ""} onName={(name) => {
        station.setReviewer(name);
        setNaming(false);
        setEveryone(false);
      }} />
    );
  }
  if (page === null) {
    if (problem) return <Message title={t("changes.away.title")} text={t("changes.away.text")} />;
    return <Message title={t("changes.loading")} />;
  }
  const shown = page.changes.find((one) => one.alias === alias && String(one.revision) === revision);
  const chosen = alias !== undefined && revision !== undefined ? { alias, revision: Number(revision) } : newest;
  if (chosen === undefined) {
    if (!page.compares) return <Message title={t("changes.off.title")} text={t("changes.off.text")} />;
    return <Message title={t("changes.none.title")} text={t("changes.none.text")} />;
  }
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("changes.title")}</h1>
        <Link className={`${ButtonLook} ${styles["back"]}`} to="/models">
          <Icon name="left" size={18} />
          {t("models.title")}
        </Link>
        <Whose everyone={whose === null} reviewer={reviewer} onEveryone={setEveryone} onName={() => setNaming(true)} />
      </header>
      {problem && <p className={styles["note"]} role="status">{t("changes.away.text")}</p>}
      <div className={styles["columns"]}>
        <ChangeList changes={page.changes} shown={chosen} mine={kept?.whose !== null}
          onMore={page.next === null ? null : () => setLimit(limit + PAGE)} />
        <Shown key={`${chosen.alias}/${chosen.revision}`} alias={chosen.alias} revision={chosen.revision}
          listed={shown ?? (newest === chosen ? newest : null)} whose={whose} onName={() => setNaming(true)} />
      </div>
    </div>
  );
}

/** What was there stays until it is counted anew for somebody else, and says whose it is. */
function useKept<T>(value: T | null, whose: string | null): { value: T; whose: string | null } | null {
  const [kept, setKept] = useState<{ value: T; whose: string | null } | null>(null);
  if (value !== null && value !== kept?.value) setKept({ value, whose });
  return kept;
}

/** Pages until there are enough, so that what is asked again is all that is on screen. */
async function fetchAll(reviewer: string | null, limit: number, signal: AbortSignal): Promise<ChangePage> {
  const changes: Change[] = [];
  let after: string | null = null;
  for (;;) {
    const page: ChangePage = await fetchChanges({ reviewer, after, limit: PAGE }, signal);
    changes.push(...page.changes);
    after = page.next;
    if (after === null || changes.length >= limit) return { ...page, changes };
  }
}

function Whose(props: { everyone: boolean; reviewer: string | null; onEveryone: (all: boolean) => void; onName: () => void }) {
  const { t } = useI18n();
  const { everyone, reviewer, onEveryone, onName } = props;
  return (
    <div className={styles["whose"]} role="group" aria-label={t("changes.whose")}>
      {reviewer === null ? (
        <button type="button" onClick={onName}>{t("changes.name")}</button>
      ) : (
        <button type="button" aria-pressed={!everyone} onClick={() => onEveryone(false)}>{t("changes.mine")}</button>
      )}
      <button type="button" aria-pressed={everyone} onClick={() => onEveryone(true)}>{t("changes.everyone")}</button>
    </div>
  );
}

function Shown(props: { alias: string; revision: number; listed: Change | null; whose: string | null; onName: () => void }) {
  const { t } = useI18n();
  const { alias, revision, listed, whose } = props;
  const ask = useCallback(
    (signal: AbortSignal) => fetchChange(alias, revision, whose, signal),
    [alias, revision, whose],
  );
  const comparing = listed === null || listed.state === "comparing";
  const { value, problem, again } = useAsked(ask, comparing ? EVERY_MS : null);
  const kept = useKept(value, whose);
  if (kept !== null) {
    return <ChangeView detail={kept.value} mine={kept.whose !== null} onName={props.onName} onUndone={again} />;
  }
  if (problem?.reason === "not_found" || problem?.reason === "invalid_input") {
    return <Message title={t("changes.gone.title")} text={t("changes.gone.text")} />;
  }
  if (problem) return <Message title={t("changes.away.title")} text={t("changes.away.text")} />;
  return <Message title={t("changes.loading")} />;
}
