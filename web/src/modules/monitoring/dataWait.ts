/** How long the steps of a run wait for their rows. Pure. */
import type { Lines } from "./series";

/** The child's own check looks at as many steps and has the same bound (finery.runtime.bottleneck). */
const STEPS = 20;
export const BOUND = 0.2;

export interface Wait {
  /** Of the time of the newest steps, from 0 to 1. */
  share: number;
  numSteps: number;
}

/** Null where the run does not say. */
export function dataWait(metrics: Lines, attempt: number): Wait | null {
  const find = (name: string) => [...metrics.values()].find((line) => line.name === name && line.attempt === attempt);
  const [waited, taken] = [find("seconds_data"), find("seconds_per_step")];
  if (!waited || !taken) return null;
  const seconds = new Map(taken.steps.map((step, at) => [step, taken.values[at] ?? NaN]));
  let [sumWaited, sumTaken, numSteps] = [0, 0, 0];
  for (let at = waited.steps.length - 1; at > 0 && numSteps < STEPS; at--) {
    const [own, whole] = [waited.values[at] ?? NaN, seconds.get(waited.steps[at] ?? NaN) ?? NaN];
    if (!Number.isFinite(own) || !Number.isFinite(whole)) continue;
    [sumWaited, sumTaken, numSteps] = [sumWaited + own, sumTaken + whole, numSteps + 1];
  }
  return sumTaken > 0 ? { share: sumWaited / sumTaken, numSteps } : null;
}
