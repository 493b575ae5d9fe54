/** Language of the page: a hook that translates typed keys. */
import { createContext, useContext } from "react";
import { en, type Key } from "./en";
import { zh } from "./zh";

export type Language = "en" | "zh";
export type { Key };

const TEXTS: Record<Language, Record<Key, string>> = { en, zh };

export type Translate = (key: Key, values?: Record<string, string | number>) => string;

export function translator(language: Language): Translate {
  return (key, values = {}) =>
    TEXTS[language][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export const LanguageContext = createContext<{ language: Language; t: Translate }>({
  language: "en",
  t: translator("en"),
});

export function useT(): Translate {
  return useContext(LanguageContext).t;
}

export function useLanguage(): Language {
  return useContext(LanguageContext).language;
}
