/** What a person has chosen for this browser: language and theme. */
import { useCallback, useEffect, useState } from "react";
import type { Language } from "./i18n";

export type Theme = "light" | "dark" | "system";

function useStored<T extends string>(key: string, first: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => (window.localStorage.getItem(key) as T | null) ?? first);
  const store = useCallback(
    (next: T) => {
      window.localStorage.setItem(key, next);
      setValue(next);
    },
    [key],
  );
  return [value, store];
}

export function useLanguagePreference(): [Language, (value: Language) => void] {
  return useStored<Language>("finery.language", navigator.language.startsWith("zh") ? "zh" : "en");
}

export function useThemePreference(): [Theme, (value: Theme) => void] {
  return useStored<Theme>("finery.theme", "system");
}

/** Whether to draw in dark colours now. */
export function useIsDark(theme: Theme): boolean {
  const [systemIsDark, setSystem] = useState(() => window.matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setSystem(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);
  return theme === "system" ? systemIsDark : theme === "dark";
}
