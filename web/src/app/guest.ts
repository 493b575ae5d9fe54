/** Whether the page is read through a link to one run: then nothing can be changed, and no other page opened. */
import { createContext, useContext } from "react";

export const GuestContext = createContext(false);

export function useIsGuest(): boolean {
  return useContext(GuestContext);
}
