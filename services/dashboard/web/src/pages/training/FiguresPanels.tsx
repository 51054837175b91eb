import type { ReactNode } from "react";
import type { ShadowFigures, Snapshot, WatchFigures } from "../../api/training";
import { Panel } from "../../components/Panel";
import { hasMessage, useI18n } from "../../i18n";
import styles from "./FiguresPanels.module.css";
import tables from "./Tables.module.css";

/** What a run learns from. */
export function SnapshotPanel({ snapshot }: { snapshot: Snapshot | null }) {
  const { t, format } = useI18n();
  if (snapshot === null) {
    return (
      <Panel title={t("training.data")}>
        <p className={styles["quiet"]}>{t("training.data.wait")}</p>
      </Panel>
    );
  }
  return (
    <Panel title={t("training.data")}>
      <dl className={styles["figures"]}>
        <Row name={t("training.data.parts")} value={format.count(snapshot.parts)} />
        <Row name={t("training.data.good")} value={format.count(snapshot.good)} />
        <Row name={t("training.data.reviews")} value={format.count(snapshot.reviews)} />
        <Row name={t("training.data.contradicted")} value={format.count(snapshot.contradicted)} />
      </dl>
      {snapshot.left_out.length > 0 && (
        <p className={styles["quiet"]}>
          {t("training.data.left_out")}{" "}
          {snapshot.left_out
            .map(({ reason, parts }) => {
              const key = `training.left_out.${reason}`;
              return t(hasMessage(key) ? key : "training.left_out.other", { count: format.count(parts), reason });
            })
            .join(", ")}
        </p>
      )}
    </Panel>
  );
}

/** How a candidate does beside the live version. */
export function ShadowPanel({ shadow }: { shadow: ShadowFigures }) {
  const { t, format } = useI18n();
  const part = (count: number) => (shadow.frames > 0 ? `${format.count(count)} (${format.percent(count / shadow.frames)})` : "–");
  return (
    <Panel title={t("training.shadow")}>
      <dl className={styles["figures"]} data-testid="shadow">
        <Row name={t("training.shadow.frames")}
          value={t("training.shadow.of", { count: format.count(shadow.frames), wanted: format.count(shadow.wanted) })} />
        <Row name={t("training.shadow.agreed")} value={part(shadow.agreed)} />
        <Row name={t("training.shadow.live")} value={part(shadow.live_flagged)} />
        <Row name={t("training.shadow.candidate")} value={part(shadow.candidate_flagged)} />
        <Row name={t("training.shadow.failed")} value={format.count(shadow.failed)} />
      </dl>
    </Panel>
  );
}

/** How the line does with a new version, against the one before. */
export function WatchPanel({ watch }: { watch: WatchFigures }) {
  const { t, format } = useI18n();
  const share = (count: number, all: number) => (all > 0 ? `${format.count(count)} (${format.percentRare(count / all)})` : "–");
  return (
    <Panel title={t("training.watch")}>
      <div className={tables["scroll"]} data-testid="watch">
        <table>
          <thead>
            <tr>
              <th scope="col">{t("training.watch.figure")}</th>
              <th scope="col">{t("training.watch.before")}</th>
              <th scope="col">{t("training.watch.now")}</th>
            </tr>
          </thead>
          <tbody>
            <Pair name={t("training.watch.frames")} before={format.count(watch.before_frames)} now={format.count(watch.frames)} />
            <Pair name={t("training.watch.flagged")} before={share(watch.before_flagged, watch.before_frames)}
              now={share(watch.flagged, watch.frames)} />
            <Pair name={t("training.watch.late")} before={share(watch.before_late, watch.before_frames)} now={share(watch.late, watch.frames)} />
          </tbody>
        </table>
      </div>
      <p className={styles["quiet"]}>{t("training.watch.until", { time: format.since(watch.until_ms) })}</p>
    </Panel>
  );
}

function Pair({ name, before, now }: { name: string; before: string; now: string }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{before}</td>
      <td>
        <b>{now}</b>
      </td>
    </tr>
  );
}

function Row({ name, value }: { name: string; value: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
