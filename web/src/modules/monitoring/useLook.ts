import { useMemo } from "react";
import { viewOf, type ChartView } from "./view";

/** What each chart needs of the address: the same object while that stays the same. */
export function useLook(text: string): Pick<ChartView, "smoothing" | "isLogX" | "isLogY" | "isClipped" | "stretch"> {
  const { smoothing, isLogX, isLogY, isClipped, stretch } = viewOf(new URLSearchParams(text));
  const [from, to] = [stretch?.from, stretch?.to];
  return useMemo(
    () => ({ smoothing, isLogX, isLogY, isClipped, stretch: from === undefined || to === undefined ? null : { from, to } }),
    [smoothing, isLogX, isLogY, isClipped, from, to],
  );
}
