import type { EpochLoss } from "../../api/training";
import { linePath, niceTop, stretches, type Spot } from "../../components/chartScale";
import { useI18n } from "../../i18n";
import styles from "./LossChart.module.css";
import tables from "./Tables.module.css";

const WIDTH = 460;
const HEIGHT = 220;
const LEFT = 50;
const RIGHT = 14;
const TOP = 10;
const FLOOR = HEIGHT - 40;
const MOST_TICKS = 8;

/** The losses by epoch, as curves and as a table. */
export function LossChart({ epochs }: { epochs: EpochLoss[] }) {
  const { t, format } = useI18n();
  const last = epochs.at(-1);
  if (last === undefined) return <p className={styles["quiet"]}>{t("training.loss.none")}</p>;
  const told = (value: number | null) => (value === null ? "–" : format.fine(value));
  const ends = { count: epochs.length, train: told(last.train_loss), validation: told(last.validation_loss) };
  return (
    <div className={styles["loss"]} data-testid="losses">
      {epochs.length === 1 ? <p>{t("training.loss.single", ends)}</p> : <Curves epochs={epochs} label={t("training.loss.summary", ends)} />}
      <details>
        <summary>{t("training.loss.table")}</summary>
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
        <div className={tables["scroll"]} role="group" aria-label={t("training.loss")} tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("training.loss.epoch")}</th>
                <th scope="col">{t("training.loss.train")}</th>
                <th scope="col">{t("training.loss.validation")}</th>
                <th scope="col">{t("training.loss.distance")}</th>
              </tr>
            </thead>
            <tbody>
              {epochs.map((one) => (
                <tr key={one.epoch}>
                  <th scope="row">{one.epoch}</th>
                  <td>{told(one.train_loss)}</td>
                  <td>{told(one.validation_loss)}</td>
                  <td>{told(one.distance)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </div>
  );
}

function Curves({ epochs, label }: { epochs: EpochLoss[]; label: string }) {
  const { t, format } = useI18n();
  const top = niceTop(Math.max(...epochs.flatMap((one) => [one.train_loss ?? 0, one.validation_loss ?? 0])));
  const first = epochs[0]?.epoch ?? 1;
  const span = Math.max(1, (epochs.at(-1)?.epoch ?? 1) - first);
  const x = (epoch: number) => LEFT + ((WIDTH - LEFT - RIGHT) * (epoch - first)) / span;
  const y = (loss: number) => FLOOR - (FLOOR - TOP) * (loss / top);
  const curve = (of: (one: EpochLoss) => number | null) =>
    stretches(epochs.map((one): Spot | null => {
      const loss = of(one);
      return loss === null ? null : { x: x(one.epoch), y: y(loss) };
    }));
  const step = Math.ceil((span + 1) / MOST_TICKS);
  const ticks = epochs.filter((one) => (one.epoch - first) % step === 0);
  return (
    <figure>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
        {[0, top / 2, top].map((value) => (
          <g key={value}>
            <line className={styles["grid"]} x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} />
            <text className={styles["axis"]} x={LEFT - 8} y={y(value) + 4} textAnchor="end">
              {format.score(value)}
            </text>
          </g>
        ))}
        {ticks.map(({ epoch }) => (
          <text key={epoch} className={styles["axis"]} x={x(epoch)} y={FLOOR + 17} textAnchor="middle">
            {epoch}
          </text>
        ))}
        <text className={styles["axis"]} x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 4} textAnchor="middle">
          {t("training.loss.epoch")}
        </text>
        <Curve stretches={curve((one) => one.train_loss)} kind="train" />
        <Curve stretches={curve((one) => one.validation_loss)} kind="validation" />
      </svg>
      <figcaption>
        <Key kind="train" text={t("training.loss.train")} />
        <Key kind="validation" text={t("training.loss.validation")} />
      </figcaption>
    </figure>
  );
}

type Kind = "train" | "validation";

function Curve({ stretches: parts, kind }: { stretches: Spot[][]; kind: Kind }) {
  return parts.map((spots) => (
    <g key={spots[0]?.x} className={styles["curve"]} data-kind={kind}>
      <path d={linePath(spots)} />
      {spots.map((spot) => (
        <circle key={spot.x} cx={spot.x} cy={spot.y} r="3" />
      ))}
    </g>
  ));
}

function Key({ kind, text }: { kind: Kind; text: string }) {
  return (
    <span>
      <svg width="26" height="10" aria-hidden="true" focusable="false">
        <g className={styles["curve"]} data-kind={kind}>
          <path d="M0 5H26" />
          <circle cx="13" cy="5" r="3" />
        </g>
      </svg>
      {text}
    </span>
  );
}
