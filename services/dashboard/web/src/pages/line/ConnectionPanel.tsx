import type { LineConnection, LineNow } from "../../api/lines";
import { Icon } from "../../components/Icon";
import { Panel } from "../../components/Panel";
import { useI18n } from "../../i18n";
import { stepOf, STEPS } from "../../lines/state";
import { errorText, kindText } from "../../lines/words";
import styles from "./ConnectionPanel.module.css";

const NO_OUTCOMES = 9;

/** What the line is answered on: where each handshake stands, and what waits to be told. */
export function ConnectionPanel({ line }: { line: LineNow }) {
  const { t } = useI18n();
  return (
    <Panel title={t("line.connections")}>
      {line.connections.length === 0 && <p className={styles["none"]}>{t("line.connections.none")}</p>}
      <ul className={styles["connections"]}>
        {line.connections.map((one) => (
          <Connection key={one.name} connection={one} />
        ))}
      </ul>
    </Panel>
  );
}

function Connection({ connection }: { connection: LineConnection }) {
  const { t, format } = useI18n();
  const { name, up, handshake, waiting } = connection;
  const state = stateOf(connection);
  const error = errorText(connection.error_code, t);
  return (
    <li data-testid={`connection-${name}`}>
      <div className={styles["head"]}>
        <h3>{name}</h3>
        <span>{kindText(connection, t)}</span>
        <span className={styles["state"]} data-up={up}>
          <Icon name={up ? "check" : "close"} size={16} />
          {t(`line.connection.${state}`)}
        </span>
      </div>
      <p className={styles["address"]}>{connection.address}</p>
      {handshake !== null && <Handshake connection={connection} />}
      {error !== null && (
        <p className={styles["error"]}>{t("line.error", { code: connection.error_code, text: error })}</p>
      )}
      {(handshake === null || waiting > 0) && (
        <p className={styles["waiting"]} data-late={waiting > 0}>
          {waiting === 0
            ? t("line.connection.waiting.none")
            : t("line.connection.waiting", { count: format.count(waiting), age: format.age(connection.oldest_waiting_ms / 1000) })}
        </p>
      )}
      {connection.detail && <p className={styles["detail"]}>{connection.detail}</p>}
    </li>
  );
}

/** What is wrong with a PLC is its heart, unless its outputs are safe because nobody can tell of parts. */
function stateOf({ up, handshake, error_code }: LineConnection): "up" | "down" | "beats" | "still" | "blind" {
  if (handshake === null) return up ? "up" : "down";
  if (up) return "beats";
  return error_code === NO_OUTCOMES ? "blind" : "still";
}

function Handshake({ connection }: { connection: LineConnection }) {
  const { t } = useI18n();
  const now = connection.handshake === null ? null : stepOf(connection.handshake);
  return (
    <div className={styles["handshake"]} data-safe={now === null}>
      <ol aria-label={t("line.handshake", { name: connection.name })}>
        {STEPS.map((step) => (
          <li key={step} data-now={step === now} aria-current={step === now ? "step" : undefined}>
            {t(`line.step.${step}`)}
          </li>
        ))}
      </ol>
      <p>
        {t(`line.step.${now ?? "safe"}.means`)}
        {connection.part_id && ` ${t("line.connection.part", { part: connection.part_id })}.`}
      </p>
    </div>
  );
}
