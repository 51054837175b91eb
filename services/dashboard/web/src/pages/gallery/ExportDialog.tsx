import { useEffect, useRef, useState } from "react";
import { ApiError } from "../../api/client";
import { exportCases, exportUrl, fetchCounts, LAYOUTS, type ExportChoice } from "../../api/gallery";
import type { QueuedCase, QueueStats } from "../../api/types";
import { ButtonLook, StrongButtonLook } from "../../components/Button";
import type { Filter } from "../../gallery/filter";
import { useI18n } from "../../i18n";
import styles from "./ExportDialog.module.css";
import { Modal } from "./Modal";

const MOST_CHOSEN = 5_000;

interface Props {
  filter: Filter;
  /** These instead of the filter; empty where none are chosen. */
  chosen: readonly QueuedCase[];
  onClose: () => void;
}

type Running = { kind: "no" | "making" | "begun" } | { kind: "failed"; message: string };

/** How an archive is laid out and whose word counts, with what will be in it. */
export function ExportDialog({ filter, chosen, onClose }: Props) {
  const { t, format } = useI18n();
  const [choice, setChoice] = useState<ExportChoice>({ layout: "coco", modelToo: false, reviewers: false });
  const [running, setRunning] = useState<Running>({ kind: "no" });
  const abort = useRef<AbortController | null>(null);
  const counts = useCounts(filter, chosen);
  useEffect(() => () => abort.current?.abort(), []);
  const labelled = counts === null ? null : counted(counts, filter, choice.modelToo);
  const tooMany = chosen.length > MOST_CHOSEN;
  const ready = labelled !== null && labelled.with > 0 && !tooMany && running.kind !== "making";
  const change = (by: Partial<ExportChoice>) => {
    setChoice({ ...choice, ...by });
    setRunning({ kind: "no" });
  };
  const make = async () => {
    const stop = new AbortController();
    abort.current = stop;
    setRunning({ kind: "making" });
    try {
      const { archive, name } = await exportCases(chosen.map((one) => one.case_id), choice, stop.signal);
      keep(archive, name);
      setRunning({ kind: "begun" });
    } catch (error) {
      if (stop.signal.aborted) setRunning({ kind: "no" });
      else setRunning({ kind: "failed", message: error instanceof ApiError ? error.problem.message : String(error) });
    }
  };
  return (
    <Modal title={t("gallery.export")} onClose={onClose}>
      <div className={styles["body"]}>
        <p>{chosen.length > 0 ? t("gallery.export.chosen", { count: format.count(chosen.length) }) : t("gallery.export.filter")}</p>
        <fieldset>
          <legend>{t("gallery.export.layout")}</legend>
          {LAYOUTS.map((layout) => (
            <label key={layout} className={styles["choice"]}>
              <input type="radio" name="layout" checked={choice.layout === layout} onChange={() => change({ layout })} />
              <b>{t(`gallery.export.layout.${layout}`)}</b>
              <small>{t(`gallery.export.layout.${layout}.text`)}</small>
            </label>
          ))}
        </fieldset>
        <label className={styles["choice"]}>
          <input type="checkbox" checked={choice.modelToo} onChange={(event) => change({ modelToo: event.target.checked })} />
          <b>{t("gallery.export.model")}</b>
          <small>{t("gallery.export.model.text")}</small>
        </label>
        <label className={styles["choice"]}>
          <input type="checkbox" checked={choice.reviewers} onChange={(event) => change({ reviewers: event.target.checked })} />
          <b>{t("gallery.export.reviewers")}</b>
        </label>
        <div className={styles["told"]} role="status">
          {tooMany ? (
            <p>{t("gallery.export.many", { count: format.count(MOST_CHOSEN) })}</p>
          ) : counts === null || labelled === null ? (
            <p>{t("gallery.export.counting")}</p>
          ) : labelled.with === 0 ? (
            <p>{t("gallery.export.none")}</p>
          ) : (
            <>
              <p>{t("gallery.export.count", { count: format.count(labelled.with), all: format.count(labelled.all) })}</p>
              {labelled.all > labelled.with && (
                <p>
                  {t(choice.modelToo ? "gallery.export.left_out.model" : "gallery.export.left_out", {
                    open: format.count(labelled.open),
                    disputed: format.count(labelled.disputed),
                  })}
                </p>
              )}
            </>
          )}
          {running.kind === "making" && <p>{t("gallery.export.running")}</p>}
          {running.kind === "begun" && <p>{t("gallery.export.started")}</p>}
          {running.kind === "failed" && <p className={styles["failed"]}>{t("gallery.export.failed", { message: running.message })}</p>}
        </div>
        <div className={styles["foot"]}>
          {running.kind === "making" ? (
            <button type="button" className={ButtonLook} onClick={() => abort.current?.abort()}>
              {t("gallery.export.stop")}
            </button>
          ) : chosen.length > 0 || !ready ? (
            <button type="button" className={StrongButtonLook} disabled={!ready} onClick={() => void make()}>
              {t("gallery.export.go")}
            </button>
          ) : (
            // The browser keeps it as it comes: an archive may be larger than what a page can hold.
            <a className={StrongButtonLook} href={exportUrl(filter, choice)} download onClick={() => setRunning({ kind: "begun" })}>
              {t("gallery.export.go")}
            </a>
          )}
        </div>
      </div>
    </Modal>
  );
}

function useCounts(filter: Filter, chosen: readonly QueuedCase[]): QueueStats | null {
  const [counts, setCounts] = useState<QueueStats | null>(null);
  const named = chosen.length > 0;
  useEffect(() => {
    if (named) return;
    const abort = new AbortController();
    fetchCounts(filter, abort.signal).then(setCounts, () => undefined);
    return () => abort.abort();
  }, [filter, named]);
  if (!named) return counts;
  const of = (state: QueuedCase["state"]) => chosen.filter((one) => one.state === state).length;
  return { open: of("open"), reviewed: of("reviewed"), disputed: of("disputed"), verdict_right: 0, false_rejects: 0, escapes: 0, wrong_reason: 0 };
}

/** How many cases may have a label at most: of some reviewed ones nobody was sure, and of some open ones the model asked. */
function counted(counts: QueueStats, filter: Filter, modelToo: boolean) {
  const wanted = (state: QueuedCase["state"]) => (filter.state === "" || filter.state === state ? counts[state] : 0);
  const [open, reviewed, disputed] = [wanted("open"), wanted("reviewed"), wanted("disputed")];
  return { open, disputed, all: open + reviewed + disputed, with: reviewed + (modelToo ? open : 0) };
}

function keep(archive: Blob, name: string): void {
  const url = URL.createObjectURL(archive);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The download has its own hold on it once it has begun.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
