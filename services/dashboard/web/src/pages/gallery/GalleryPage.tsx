import { useCallback, useEffect, useEffectEvent, useMemo, useRef, useState, type KeyboardEvent, type MouseEvent } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { useMay } from "../../access/hooks";
import { sendBulk } from "../../api/gallery";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Message } from "../../components/Message";
import { answered, bulkAnswers, sendAll, type BulkAction, type BulkAnswer, type BulkOutcome } from "../../gallery/bulk";
import { fieldsSet, inState, readView, writeView, type View } from "../../gallery/filter";
import { among, everything, extended, neighbour, NOTHING, toggled } from "../../gallery/selection";
import { problemOf, useCases, type Cases } from "../../gallery/useCases";
import { useRows } from "../../gallery/window";
import { useI18n } from "../../i18n";
import { useLive } from "../../live/hooks";
import { newId } from "../../review/answers";
import { useReviewStation, useStation } from "../../review/hooks";
import { NameForm } from "../review/NameForm";
import { BulkBar } from "./BulkBar";
import { ExportDialog } from "./ExportDialog";
import { FilterBar, type Suggestions } from "./FilterBar";
import styles from "./GalleryPage.module.css";
import { Modal } from "./Modal";
import { Tile } from "./Tile";

const AHEAD = "1200px";
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

/** All cases, by any filter: looked through, answered many at once, and taken along as an archive. */
export function GalleryPage() {
  const { t, format } = useI18n();
  const [search, setSearch] = useSearchParams();
  const address = search.toString();
  const view = useMemo(() => readView(new URLSearchParams(address)), [address]);
  const cases = useCases(view);
  const mayBulk = useMay("bulk");
  const mayExport = useMay("export");
  const [exporting, setExporting] = useState<"filter" | "chosen" | null>(null);
  const order = useMemo(() => cases.cases.map((one) => one.case_id), [cases.cases]);
  const [chosenIds, setChosen] = useState(NOTHING);
  const selection = among(chosenIds, order);
  const chosen = useMemo(() => cases.cases.filter((one) => selection.ids.has(one.case_id)), [cases.cases, selection]);
  const bulk = useBulk(cases, () => {
    setChosen(NOTHING);
    backToGrid();
  });
  useEffect(() => {
    document.title = `${t("gallery.title")} · ${t("app.name")}`;
  }, [t]);
  const onView = (next: View) => {
    setChosen(NOTHING);
    // Typed and chosen step by step: the way back leads to the page before, not through every step.
    setSearch(writeView(next), { replace: true });
  };
  const count = cases.counts === null ? null : inState(cases.counts, view.filter.state);
  return (
    <>
      <h1 className="visually-hidden">{t("gallery.title")}</h1>
      <FilterBar view={view} suggestions={useSuggestions(cases)} onView={onView} />
      <div className={styles["head"]}>
        <p className={styles["keys"]}>{cases.cases.length > 0 && t("gallery.keys")}</p>
        {cases.arrived > 0 && (
          <button type="button" className={StrongButtonLook} onClick={cases.reload} data-testid="arrived">
            {t("gallery.new", { count: format.count(cases.arrived) })}
          </button>
        )}
        {count !== null && (
          <span className={styles["count"]}>
            {count === 1 ? t("gallery.count.one") : t("gallery.count", { count: format.count(count) })}
          </span>
        )}
        {mayExport && (
          <button type="button" className={ButtonLook} disabled={view.find !== "" || count === null || count === 0} onClick={() => setExporting("filter")}>
            <Icon name="save" size={18} />
            {t("gallery.export.all")}
          </button>
        )}
      </div>
      {cases.cases.length > 0 ? (
        <>
          <Grid cases={cases} order={order} chosen={selection.ids} onToggle={(id) => setChosen(toggled(selection, id))}
            onExtend={(id) => setChosen(extended(selection, order, id))} onAll={() => setChosen(everything(order))}
            onNone={() => setChosen(NOTHING)} />
          <End cases={cases} />
        </>
      ) : (
        <Nothing view={view} cases={cases} onFind={() => onView({ ...view, find: "" })} />
      )}
      {mayBulk && (
        <BulkBar chosen={chosen.length} sending={bulk.sending} outcome={bulk.outcome} onExport={() => setExporting("chosen")}
          onAction={(action) => bulk.act(action, bulkAnswers(chosen, action, newId))}
          onClear={() => {
            setChosen(NOTHING);
            backToGrid();
          }} onChooseAll={() => setChosen(everything(order))} onUndo={bulk.undo} onRetry={bulk.retry}
          onDismiss={() => {
            bulk.dismiss();
            backToGrid();
          }} />
      )}
      {bulk.asksName && (
        <Modal title={t("gallery.name")} onClose={bulk.forgetName}>
          <NameForm name="" onName={bulk.takeName} />
        </Modal>
      )}
      {exporting !== null && <ExportDialog filter={view.filter} chosen={exporting === "chosen" ? chosen : []} onClose={() => setExporting(null)} />}
    </>
  );
}

interface GridProps {
  cases: Cases;
  order: readonly string[];
  chosen: ReadonlySet<string>;
  onToggle: (id: string) => void;
  onExtend: (id: string) => void;
  onAll: () => void;
  onNone: () => void;
}

function Grid(props: GridProps) {
  const { t } = useI18n();
  const navigate = useNavigate();
  const list = useRef<HTMLUListElement>(null);
  const [reached, setReached] = useState<string | null>(null);
  /** Gets the keyboard as soon as it is drawn. */
  const goesTo = useRef<string | null>(null);
  const { cases, order, chosen } = props;
  const { shape, rows, show } = useRows(list, order.length);
  const from = rows.from * shape.columns;
  const drawn = cases.cases.slice(from, rows.to * shape.columns);
  const reachable = drawn.some((one) => one.case_id === reached) ? reached : drawn[0]?.case_id;
  const below = Math.max(0, Math.ceil(order.length / shape.columns) - rows.to);
  // What the tiles call stays the same, whatever is chosen.
  const latest = useRef({ ...props, columns: shape.columns, show });
  useEffect(() => {
    latest.current = { ...props, columns: shape.columns, show };
    const tile = goesTo.current === null ? null : list.current?.querySelector<HTMLElement>(`[data-case="${goesTo.current}"] button`);
    if (!tile) return;
    goesTo.current = null;
    tile.focus();
  });
  const onPress = useCallback((id: string, event: MouseEvent) => {
    setReached(id);
    if (event.shiftKey) latest.current.onExtend(id);
    else latest.current.onToggle(id);
  }, []);
  const onKey = useCallback(
    (id: string, event: KeyboardEvent) => {
      const { order: all, onExtend, onAll, onNone, columns, show: bring } = latest.current;
      if (event.key === "Enter") {
        event.preventDefault();
        void navigate(`/review/${id}`);
      } else if (event.key === "Escape") {
        onNone();
      } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        onAll();
      } else if (ARROWS.includes(event.key) && !event.altKey && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        const to = neighbour(all.indexOf(id), event.key, columns, all.length);
        const next = all[to];
        if (next === undefined) return;
        goesTo.current = next;
        setReached(next);
        if (event.shiftKey) onExtend(next);
        bring(to);
      }
    },
    [navigate],
  );
  return (
    <ul ref={list} className={styles["grid"]} aria-label={t("gallery.grid")} data-testid="grid"
      style={{ paddingTop: rows.from * shape.rowPx, paddingBottom: below * shape.rowPx, gridTemplateColumns: `repeat(${shape.columns}, 1fr)` }}>
      {drawn.map((one, at) => (
        <Tile key={one.case_id} one={one} place={from + at + 1} of={order.length} chosen={chosen.has(one.case_id)}
          reachable={one.case_id === reachable} onPress={onPress} onKey={onKey} />
      ))}
    </ul>
  );
}

/** What had the keyboard goes away with the choice: it comes back to the tiles. */
function backToGrid(): void {
  document.querySelector<HTMLElement>("[data-testid=grid] button[tabindex='0']")?.focus({ preventScroll: true });
}

/** Below the tiles: asks for the next ones before anybody comes there. */
function End({ cases }: { cases: Cases }) {
  const { t } = useI18n();
  const mark = useRef<HTMLDivElement>(null);
  const { next, loading, problem, cases: shown } = cases;
  const onSeen = useEffectEvent(() => cases.loadMore());
  useEffect(() => {
    if (next === null || loading || problem !== null || !mark.current) return;
    const observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && onSeen(), { rootMargin: AHEAD });
    observer.observe(mark.current);
    return () => observer.disconnect();
  }, [next, loading, problem, shown.length]);
  return (
    <div ref={mark} className={styles["end"]}>
      {loading && <p role="status">{t("gallery.loading")}</p>}
      {problem !== null && (
        <>
          <p role="alert">{t("gallery.problem.more", { message: problem.message })}</p>
          <button type="button" className={ButtonLook} onClick={cases.loadMore}>
            {t("gallery.again")}
          </button>
        </>
      )}
      {!loading && problem === null && next === null && <p>{t(cases.more ? "gallery.find.more" : "gallery.end")}</p>}
    </div>
  );
}

function Nothing({ view, cases, onFind }: { view: View; cases: Cases; onFind: () => void }) {
  const { t } = useI18n();
  if (cases.loading) return <Message title={t("gallery.loading")} />;
  if (cases.problem !== null) {
    const none = cases.problem.reason === "no_feedback";
    return (
      <Message title={t("gallery.problem")} text={none ? t("gallery.problem.none") : t("gallery.problem.text", { message: cases.problem.message })}>
        {!none && (
          <button type="button" className={ButtonLook} onClick={cases.reload}>
            {t("gallery.again")}
          </button>
        )}
      </Message>
    );
  }
  if (view.find !== "") {
    return (
      <Message title={t("gallery.find.none", { text: view.find })} text={t("gallery.find.none.text")}>
        <button type="button" className={ButtonLook} onClick={onFind}>
          {t("gallery.find.clear")}
        </button>
      </Message>
    );
  }
  const narrowed = fieldsSet(view.filter) > 0;
  return <Message title={t(narrowed ? "gallery.empty" : "gallery.empty.all")} text={t(narrowed ? "gallery.empty.text" : "gallery.empty.all.text")} />;
}

/** Answers many cases; asks first who does, where that is not known here. What is chosen stays so until then. */
function useBulk(cases: Cases, onSent: () => void) {
  const station = useReviewStation();
  const { reviewer } = useStation();
  const [sending, setSending] = useState<{ done: number; count: number } | null>(null);
  const [outcome, setOutcome] = useState<BulkOutcome | null>(null);
  const [waitsForName, setWaits] = useState<{ action: BulkAction; answers: BulkAnswer[] } | null>(null);
  const send = async (name: string, action: BulkAction, answers: BulkAnswer[], before: BulkOutcome | null = null) => {
    setSending({ done: 0, count: answers.length });
    onSent();
    const told = await sendAll(action, answers, (some) => sendBulk(name, action, some), problemOf, (done) => setSending({ done, count: answers.length }));
    setSending(null);
    // What is sent again belongs to what was taken before it: all of it is taken back in one press.
    setOutcome(before ? { ...told, taken: [...before.taken, ...told.taken], refused: [...before.refused, ...told.refused] } : told);
    cases.change(new Map(told.taken.map((result) => [result.case_id, (one) => answered(one, action, result.state ?? one.state)])));
  };
  const act = (action: BulkAction, answers: BulkAnswer[]) => {
    if (reviewer === null) setWaits({ action, answers });
    else void send(reviewer, action, answers);
  };
  return {
    sending,
    outcome,
    act,
    asksName: waitsForName !== null,
    forgetName: () => setWaits(null),
    takeName: (name: string) => {
      station.setReviewer(name);
      if (waitsForName) void send(name, waitsForName.action, waitsForName.answers);
      setWaits(null);
    },
    undo: () => {
      if (outcome) act("undo", outcome.taken.map(({ case_id }) => ({ case_id, review_id: newId() })));
    },
    /** With the same ids: what had been taken all the same is not taken twice. */
    retry: () => {
      if (outcome && reviewer !== null) void send(reviewer, outcome.action, outcome.waiting, outcome);
    },
    dismiss: () => setOutcome(null),
  };
}

/** What runs now and what is on screen, to choose from. */
function useSuggestions(cases: Cases): Suggestions {
  const { wall } = useLive();
  return useMemo(() => {
    const sorted = (values: Iterable<string>) => [...new Set(values)].filter((one) => one !== "").sort();
    const seen = cases.cases.map((one) => one.inspection);
    const lines = wall?.lines ?? [];
    return {
      line: sorted([...lines.map((one) => one.line_id), ...seen.map((one) => one.line_id)]),
      camera: sorted([...lines.flatMap((one) => one.cameras.map((camera) => camera.camera_id)), ...seen.map((one) => one.camera_id)]),
      product: sorted(seen.map((one) => one.product)),
      defect_class: sorted(seen.map((one) => one.defect_class)),
      alias: sorted(seen.map((one) => one.alias)),
      model_version: sorted(seen.filter((one) => one.model_version > 0).map((one) => String(one.model_version))),
    };
  }, [wall, cases.cases]);
}
