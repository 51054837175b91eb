import { useCallback, useEffect, useState } from "react";
import { Link } from "react-router";
import { fetchModels, type Alias } from "../../api/models";
import { ButtonLook } from "../../components/Button";
import { CopyCommand } from "../../components/CopyCommand";
import { Message } from "../../components/Message";
import { NewMark } from "../../components/NewMark";
import { useI18n } from "../../i18n";
import { useAsked } from "../../models/useAsked";
import { firstPair, madeLive, versionsOf } from "../../models/versions";
import { useNewChange } from "../../models/watch";
import { Comparison } from "./Comparison";
import { History } from "./History";
import styles from "./ModelsPage.module.css";
import { VersionCard } from "./VersionCard";

const EVERY_MS = 10_000;
const SHOWN = 6;

/** Which model versions there are, which one decides, how it came to that, and how they compare. Read only. */
export function ModelsPage() {
  const { t } = useI18n();
  useEffect(() => {
    document.title = `${t("nav.models")} · ${t("app.name")}`;
  }, [t]);
  const ask = useCallback((signal: AbortSignal) => fetchModels(signal), []);
  const { value, problem } = useAsked(ask, EVERY_MS);
  if (value === null) {
    if (problem) return <Message title={t("models.away.title")} text={t("models.away.text")} />;
    return <Message title={t("models.loading")} />;
  }
  if (value.aliases.length === 0) {
    if (!value.known) return <Message title={t("models.loading")} text={t("models.unread")} />;
    return <Message title={t("models.none.title")} text={t("models.none.text")} />;
  }
  return (
    <div className={styles["page"]}>
      <header className={styles["top"]}>
        <h1>{t("models.title")}</h1>
        <ChangesLink />
      </header>
      {problem && <p className={styles["note"]} role="status">{t("models.away.text")}</p>}
      {!value.known && <p className={styles["note"]}>{t("models.unread")}</p>}
      {value.aliases.map((alias) => (
        <AliasSection key={alias.alias} alias={alias} />
      ))}
    </div>
  );
}

function ChangesLink() {
  const { t } = useI18n();
  const news = useNewChange();
  return (
    <Link className={ButtonLook} to="/changes">
      {t("models.changes")}
      {news && <NewMark />}
    </Link>
  );
}

function AliasSection({ alias }: { alias: Alias }) {
  const { t, format } = useI18n();
  const [all, setAll] = useState(false);
  const versions = versionsOf(alias);
  const shown = all ? versions : versions.slice(0, SHOWN);
  const [pair, setPair] = useState<[number, number] | null>(null);
  const compared = pair ?? firstPair(alias);
  const live = madeLive(alias);
  return (
    <section className={styles["alias"]} aria-labelledby={`alias-${alias.alias}`}>
      <header>
        <h2 id={`alias-${alias.alias}`}>{alias.alias}</h2>
        <p className={styles["live"]}>
          <strong>{alias.live_version ? t("models.live", { version: alias.live_version }) : t("models.live.none")}</strong>
          {live && <span>{t("models.live.since", { time: format.since(live.at_ms), actor: live.actor || "–" })}</span>}
          {live?.note && <q>{live.note}</q>}
        </p>
        {alias.previous_version > 0 && (
          <CopyCommand label={t("models.command.rollback", { version: alias.previous_version })}
            command={`sightline models rollback --alias ${alias.alias}`} />
        )}
      </header>
      {alias.stored_versions === null && <p className={styles["note"]}>{t("models.store_away")}</p>}
      <div className={styles["columns"]}>
        <div>
          <h3>{t("models.versions")}</h3>
          <ol className={styles["versions"]}>
            {shown.map((version) => (
              <VersionCard key={version} alias={alias} version={version} />
            ))}
          </ol>
          {shown.length < versions.length && (
            <button type="button" className={ButtonLook} onClick={() => setAll(true)}>
              {t("models.versions.more", { count: versions.length - shown.length })}
            </button>
          )}
        </div>
        <div className={styles["side"]}>
          {compared && <Comparison alias={alias.alias} versions={versions} pair={compared} onPair={setPair} />}
          <History alias={alias} />
        </div>
      </div>
    </section>
  );
}
