/** Colours that colour-blind eyes tell apart (Okabe and Ito 2008), and what states look like. */
import type { Job } from "../api/client";

const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F"];

/** Colours in an order, for lines that are no runs. */
export function paletteColour(index: number): string {
  return PALETTE[index % PALETTE.length] ?? "#0072B2";
}

/** The colour of a run, the same everywhere. */
export const runColour = paletteColour;

/** Red only for what failed, amber for what needs a person. */
export const STATE_STATUS: Record<Job["state"], "default" | "processing" | "success" | "error" | "warning"> = {
  created: "default",
  queued: "default",
  allocated: "processing",
  running: "processing",
  pausing: "processing",
  paused: "default",
  cancelling: "processing",
  cancelled: "default",
  completed: "success",
  failed: "error",
  lost: "warning",
};
