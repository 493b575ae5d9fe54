/** The lines of a metric of several runs: each run's own, or one for each group. Pure but for the language. */
import { number } from "../../app/format";
import type { Translate } from "../../app/i18n";
import type { ChartLine } from "../../ui/chartOptions";
import { runColour } from "../../ui/colours";
import { BY_STEP, pointsOf, type Scale } from "../monitoring/axis";
import { smoothed } from "../monitoring/series";
import { chain, meanOf, type GroupLines } from "./groups";
import type { RunLines } from "./logic";

export type Scales = ReadonlyMap<number, Scale>;

/** A run's attempts in their order, the earlier ones paler, as on the run's own page. */
export function runLines(run: RunLines, scales: Scales, smoothing: number, t: Translate): ChartLine[] {
  const newest = run.lines.at(-1)?.attempt;
  const numWriters = new Set(run.lines.map((line) => line.writer)).size;
  return run.lines.map((line) => {
    const origin = [...(newest !== run.lines[0]?.attempt ? [t("run.attempt", { n: line.attempt })] : []), ...(numWriters > 1 ? [line.writer] : [])];
    const { x, values } = pointsOf(line, scales.get(run.jobId) ?? BY_STEP);
    return {
      name: origin.length > 0 ? `${run.name} (${origin.join(", ")})` : run.name,
      x,
      raw: values,
      shown: smoothed(values, smoothing),
      colour: runColour(run.jobId),
      isOld: line.attempt !== newest,
    };
  });
}

/** A group's mean with the band behind; the tooltip tells of how many runs it is at each place. */
export function groupLine({ group, runs }: GroupLines, scales: Scales, smoothing: number, t: Translate): ChartLine {
  const { x, mean, low, high, counts, lost } = meanOf(runs.map((run) => chain(run.lines, scales.get(run.jobId) ?? BY_STEP)));
  const shown = smoothed(mean, smoothing);
  const texts = x.map((_, at) =>
    t("compare.meanOf", { mean: number(shown[at]), low: number(low[at]), high: number(high[at]), n: counts[at] ?? 0 }),
  );
  return { name: group.name, x, raw: mean, shown, colour: group.colour, isOld: false, spread: { low, high, texts }, lost };
}
