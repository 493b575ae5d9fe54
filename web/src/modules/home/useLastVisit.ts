/** When this browser last showed the page, so that what is new since then can be marked. */
import { useEffect, useState } from "react";

const KEY = "finery.visited";
/** Shorter looks do not count. */
const SEEN_AFTER_MS = 3000;

/** Milliseconds since the epoch; 0 at the first visit. The same for as long as the page is open. */
export function useLastVisit(): number {
  const [before] = useState(() => Number(window.localStorage.getItem(KEY) ?? 0));
  useEffect(() => {
    const timer = window.setTimeout(() => window.localStorage.setItem(KEY, String(Date.now())), SEEN_AFTER_MS);
    const leave = () => document.visibilityState === "hidden" && window.localStorage.setItem(KEY, String(Date.now()));
    document.addEventListener("visibilitychange", leave);
    return () => {
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", leave);
    };
  }, []);
  return before;
}
