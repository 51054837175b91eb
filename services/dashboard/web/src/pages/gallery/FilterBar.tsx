import { useId, useState, type ReactNode } from "react";
import { ButtonLook } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { fits, fieldsSet, fromLocalTime, KINDS, localTime, NO_FILTER, ORDERS, STATES, VERDICTS, type Filter, type View } from "../../gallery/filter";
import { useI18n } from "../../i18n";
import styles from "./FilterBar.module.css";

type TextField = "line" | "camera" | "product" | "defect_class" | "alias" | "model_version" | "answered_by";

const FOLDED = ["kind", "product", "defect_class", "alias", "model_version", "answered_by", "since_ms", "until_ms"] as const;

/** What may be chosen from, besides what can be typed. */
export type Suggestions = Partial<Record<TextField, string[]>>;

interface Props {
  view: View;
  suggestions: Suggestions;
  onView: (view: View) => void;
}

export function FilterBar({ view, suggestions, onView }: Props) {
  const { t } = useI18n();
  const { filter } = view;
  const folded = FOLDED.filter((field) => filter[field] !== "").length;
  const [unfolded, setUnfolded] = useState(folded > 0);
  const set = (change: Partial<Filter>) => onView({ ...view, find: "", filter: { ...filter, ...change } });
  const text = (field: TextField, numeric = false) => (
    <TextBox key={`${field} ${filter[field]}`} label={t(`gallery.field.${field}`)} value={filter[field]} numeric={numeric}
      suggestions={suggestions[field] ?? []} fits={(value) => fits(field, value)} onValue={(value) => set({ [field]: value })} />
  );
  return (
    <section className={styles["bar"]} aria-label={t("gallery.filters")}>
      <div className={styles["row"]}>
        <Find key={view.find} value={view.find} onFind={(find) => onView({ ...view, find })} />
        <Choice label={t("gallery.field.verdict")} value={filter.verdict} options={VERDICTS} word={(one) => t(`verdict.${one}`)}
          onValue={(verdict) => set({ verdict })} />
        <Choice label={t("gallery.field.state")} value={filter.state} options={STATES} word={(one) => t(`gallery.state.${one}`)}
          onValue={(state) => set({ state })} />
        {text("line")}
        {text("camera")}
        <Select label={t("gallery.field.order")} value={view.order} onValue={(value) => {
          const order = ORDERS.find((one) => one === value);
          if (order) onView({ ...view, find: "", order });
        }}>
          {ORDERS.map((one) => (
            <option key={one} value={one}>
              {t(`gallery.order.${one}`)}
            </option>
          ))}
        </Select>
        <button type="button" className={ButtonLook} aria-expanded={unfolded} onClick={() => setUnfolded(!unfolded)}>
          {folded > 0 ? t("gallery.more.count", { count: folded }) : t("gallery.more")}
        </button>
        {fieldsSet(filter) > 0 && (
          <button type="button" className={ButtonLook} onClick={() => onView({ ...view, find: "", filter: NO_FILTER })}>
            {t("gallery.reset")}
          </button>
        )}
      </div>
      {unfolded && (
        <div className={styles["row"]}>
          <Choice label={t("gallery.field.kind")} value={filter.kind} options={KINDS} word={(one) => t(`gallery.kind.${one}`)}
            onValue={(kind) => set({ kind })} />
          {text("product")}
          {text("defect_class")}
          {text("alias")}
          {text("model_version", true)}
          {text("answered_by")}
          <TimeBox label={t("gallery.field.since_ms")} value={filter.since_ms} onValue={(since_ms) => set({ since_ms })} />
          <TimeBox label={t("gallery.field.until_ms")} value={filter.until_ms} onValue={(until_ms) => set({ until_ms })} />
        </div>
      )}
    </section>
  );
}

function Find({ value, onFind }: { value: string; onFind: (text: string) => void }) {
  const { t } = useI18n();
  const [typed, setTyped] = useState(value);
  const id = useId();
  return (
    <form className={styles["find"]} role="search" onSubmit={(event) => {
      event.preventDefault();
      onFind(typed.trim());
    }}>
      <label htmlFor={id}>{t("gallery.find")}</label>
      <span>
        <input id={id} value={typed} placeholder={t("gallery.find.hint")} maxLength={128} spellCheck={false} autoComplete="off"
          onChange={(event) => setTyped(event.target.value)} />
        {value !== "" && typed.trim() === value ? (
          <button type="button" className={ButtonLook} aria-label={t("gallery.find.clear")} title={t("gallery.find.clear")}
            onClick={() => onFind("")}>
            <Icon name="close" size={18} />
          </button>
        ) : (
          <button type="submit" className={ButtonLook} disabled={typed.trim() === ""}>
            {t("gallery.find.go")}
          </button>
        )}
      </span>
    </form>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T | "";
  options: readonly T[];
  word: (one: T) => string;
  onValue: (value: T | "") => void;
}

function Choice<T extends string>({ label, value, options, word, onValue }: ChoiceProps<T>) {
  const { t } = useI18n();
  return (
    <Select label={label} value={value} marked={value !== ""} onValue={(chosen) => onValue(options.find((one) => one === chosen) ?? "")}>
      <option value="">{t("gallery.any")}</option>
      {options.map((one) => (
        <option key={one} value={one}>
          {word(one)}
        </option>
      ))}
    </Select>
  );
}

interface SelectProps {
  label: string;
  value: string;
  /** It narrows what is shown. */
  marked?: boolean;
  onValue: (value: string) => void;
  children: ReactNode;
}

function Select({ label, value, marked = false, onValue, children }: SelectProps) {
  const id = useId();
  return (
    <div className={styles["field"]} data-set={marked}>
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onValue(event.target.value)}>
        {children}
      </select>
    </div>
  );
}

interface TextBoxProps {
  label: string;
  value: string;
  numeric: boolean;
  suggestions: string[];
  fits: (value: string) => boolean;
  onValue: (value: string) => void;
}

/** Takes effect when it is left or with Enter; what cannot be is said and changes nothing. */
function TextBox({ label, value, numeric, suggestions, fits: isFit, onValue }: TextBoxProps) {
  const { t } = useI18n();
  const [typed, setTyped] = useState(value);
  const id = useId();
  const wrong = !isFit(typed.trim());
  const take = (next: string) => {
    if (isFit(next.trim()) && next.trim() !== value) onValue(next.trim());
  };
  return (
    <div className={styles["field"]} data-set={value !== ""}>
      <label htmlFor={id}>{label}</label>
      <input id={id} list={`${id}-list`} value={typed} placeholder={t("gallery.any")} spellCheck={false} autoComplete="off" aria-invalid={wrong}
        inputMode={numeric ? "numeric" : "text"} title={wrong ? t("gallery.field.wrong") : undefined}
        onChange={(event) => {
          setTyped(event.target.value);
          // Choosing from the list, or emptying the field, needs no further press.
          if (event.target.value === "" || suggestions.includes(event.target.value)) take(event.target.value);
        }}
        onBlur={() => take(typed)} onKeyDown={(event) => event.key === "Enter" && take(typed)} />
      <datalist id={`${id}-list`}>
        {suggestions.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </div>
  );
}

function TimeBox({ label, value, onValue }: { label: string; value: string; onValue: (value: string) => void }) {
  const id = useId();
  return (
    <div className={styles["field"]} data-set={value !== ""} data-wide="true">
      <label htmlFor={id}>{label}</label>
      <input id={id} type="datetime-local" defaultValue={localTime(value)} key={value}
        onBlur={(event) => event.target.value !== localTime(value) && onValue(fromLocalTime(event.target.value))} />
    </div>
  );
}
