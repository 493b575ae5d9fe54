/** What the page shows, kept in the address. */
import { useCallback, useEffect, useRef } from "react";
import { useSearchParams } from "react-router";

type Changes = Record<string, string | null>;
/** Takes what is to change, or a function from the newest address to it. */
export type Change = (changes: Changes | ((newest: URLSearchParams) => Changes)) => void;

/** The address's settings, and a way to change some, the same function for good: null, or an empty text, takes one out. */
export function useView(): [URLSearchParams, Change] {
  const [view, setView] = useSearchParams();
  const newest = useRef(setView);
  useEffect(() => {
    newest.current = setView;
  }, [setView]);
  const change = useCallback<Change>((changes) => {
    // What was drawn last may be behind: two quick changes would start from the same address, and the first be lost.
    const after = new URLSearchParams(window.location.search);
    const wanted = typeof changes === "function" ? changes(after) : changes;
    for (const [name, value] of Object.entries(wanted)) {
      if (value) after.set(name, value);
      else after.delete(name);
    }
    newest.current(after, { replace: true });
  }, []);
  return [view, change];
}
