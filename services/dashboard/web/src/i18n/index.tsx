import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { readChoice, storeChoice } from "../theme/choice";
import { de } from "./de";
import { en, type Catalogue, type MessageKey } from "./en";
import { makeFormats, type Formats } from "./format";

export type Language = "en" | "de";
export type { MessageKey } from "./en";

const CATALOGUES: Record<Language, Catalogue> = { en, de };
const LOCALES: Record<Language, string> = { en: "en-GB", de: "de-DE" };

export type Translate = (key: MessageKey, values?: Record<string, string | number>) => string;

interface I18n {
  language: Language;
  setLanguage: (language: Language) => void;
  t: Translate;
  format: Formats;
}

const I18nContext = createContext<I18n | null>(null);

/** Fill `{name}` marks; one without a value stays visible, so that it is noticed. */
export function fill(text: string, values: Record<string, string | number> = {}): string {
  return text.replace(/\{(\w+)\}/g, (mark, name: string) => String(values[name] ?? mark));
}

export function hasMessage(key: string): key is MessageKey {
  return Object.hasOwn(en, key);
}

export function I18nProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(firstLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const value = useMemo<I18n>(() => {
    const catalogue = CATALOGUES[language];
    return {
      language,
      setLanguage: (next) => {
        storeChoice("language", next);
        setLanguage(next);
      },
      t: (key, values) => fill(catalogue[key], values),
      format: makeFormats(LOCALES[language]),
    };
  }, [language]);
  return <I18nContext value={value}>{children}</I18nContext>;
}

export function useI18n(): I18n {
  const value = useContext(I18nContext);
  if (!value) throw new Error("useI18n must be used inside I18nProvider");
  return value;
}

function firstLanguage(): Language {
  const chosen = readChoice("language");
  if (chosen === "en" || chosen === "de") return chosen;
  return navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
}
