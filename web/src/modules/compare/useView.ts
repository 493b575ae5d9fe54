/** What the page shows, kept in the address. */
import { useCallback } from "react";
import { useSearchParams } from "react-router";

export type Change = (changes: Record<string, string | null>) => void;

/** The address's settings, and a way to change some: null, or an empty text, takes one out. */
export function useView(): [URLSearchParams, Change] {
  const [view, setView] = useSearchParams();
  const change = useCallback<Change>(
    (changes) =>
      setView(
        (before) => {
          for (const [name, value] of Object.entries(changes)) {
            if (value) before.set(name, value);
            else before.delete(name);
          }
          return before;
        },
        { replace: true },
      ),
    [setView],
  );
  return [view, change];
}
