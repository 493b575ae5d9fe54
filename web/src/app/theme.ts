import { createContext, useContext } from "react";

/** Whether the page is drawn in dark colours. */
export const ThemeContext = createContext(false);

export function useDark(): boolean {
  return useContext(ThemeContext);
}
