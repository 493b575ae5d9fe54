/** Keys that work anywhere but in a field. */
import { useEffect, useRef } from "react";

const SEQUENCE_MS = 800;
const FIELDS = "input, textarea, select, [contenteditable=true]";
const PRESSED_BY_ENTER = "a, button, summary, [role=button], [role=tab], [role=menuitem], [role=dialog]";

/** @param keys a key (`j`), two after each other (`g r`), or one with Ctrl or Cmd (`mod k`), which works in fields too -> what it does */
export function useKeys(keys: Record<string, () => void>): void {
  const current = useRef(keys);
  useEffect(() => {
    current.current = keys;
  });
  useEffect(() => {
    let before = "";
    let at = 0;
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
        const action = current.current[`mod ${event.key.toLowerCase()}`];
        if (action) {
          event.preventDefault();
          action();
        }
        return;
      }
      if (event.altKey || target.closest(FIELDS)) return;
      if (event.key === "Enter" && target.closest(PRESSED_BY_ENTER)) return;
      const now = Date.now();
      const both = now - at < SEQUENCE_MS ? `${before} ${event.key}` : "";
      const action = current.current[both] ?? current.current[event.key];
      before = event.key;
      at = now;
      if (action) {
        event.preventDefault();
        before = "";
        action();
      }
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, []);
}
