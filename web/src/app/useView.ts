/** What the page shows, kept in the address. */
import { useCallback, useEffect, useRef } from "react";
import { useSearchParams } from "react-router";

export type Change = (changes: Record<string, string | null>) => void;

/** The address's settings, and a way to change some, the same function for good: null, or an empty text, takes one out. */
export function useView(): [URLSearchParams, Change] {
  const [view, setView] = useSearchParams();
  // The router's setter starts from the address of the rendering that it is from.
  const newest = useRef(setView);
  useEffect(() => {
    newest.current = setView;
  }, [setView]);
  const change = useCallback<Change>((changes) => {
    newest.current(
      (before) => {
        const after = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value) after.set(name, value);
          else after.delete(name);
        }
        return after;
      },
      { replace: true },
    );
  }, []);
  return [view, change];
}
