/** Runs that share a setting, drawn as one line: their mean, and the band from the lowest to the highest. Pure. */
import { paletteColour, runColour } from "../../ui/colours";
import { pointsOf, type Points, type Scale } from "../monitoring/axis";
import type { Line } from "../monitoring/series";
import { asText, configOf, configRows, shortNames, type Known, type RunLines } from "./logic";

export interface GroupKey {
  key: string;
  isDifferent: boolean;
}

/** What the runs can be grouped by: keys that differ first. */
export function groupKeys(runs: Pick<Known, "job">[]): GroupKey[] {
  const rows = configRows(runs.map((run) => configOf(run.job)));
  return [...rows.filter((row) => row.isDifferent), ...rows.filter((row) => !row.isDifferent)].map(({ key, isDifferent }) => ({ key, isDifferent }));
}

export interface Group {
  /** `learning_rate = 0.001`. */
  name: string;
  ids: number[];
  colour: string;
}

/** One group for each value of the key, in the order of the values. Runs without the key are a group of their own. */
export function groupsOf(runs: Pick<Known, "id" | "job">[], key: string): Group[] {
  const byValue = new Map<string, number[]>();
  for (const { id, job } of runs) {
    const value = configOf(job).get(key);
    const text = value === undefined ? MISSING : asText(value);
    byValue.set(text, [...(byValue.get(text) ?? []), id]);
  }
  const [short] = shortNames([key]);
  const texts = [...byValue.keys()].sort(inOrder);
  const taken = new Set<string>();
  return texts.map((text) => {
    const ids = byValue.get(text) ?? [];
    const colour = freeColour(ids, taken);
    taken.add(colour);
    return { name: `${short ?? key} = ${text}`, ids, colour };
  });
}

const MISSING = "–";

/** Numbers by size, texts by the alphabet, what is missing last. */
function inOrder(a: string, b: string): number {
  const isMissing = (text: string) => (text === MISSING ? 1 : 0);
  const difference = Number(a) - Number(b);
  return isMissing(a) - isMissing(b) || (Number.isNaN(difference) ? a.localeCompare(b) : difference);
}

/** The colour of the group's first run, unless another group has it. */
function freeColour(ids: number[], taken: ReadonlySet<string>): string {
  const wanted = [...ids.map(runColour), ...Array.from({ length: NUM_COLOURS }, (_, index) => paletteColour(index))];
  return wanted.find((colour) => !taken.has(colour)) ?? wanted[0] ?? paletteColour(0);
}

const NUM_COLOURS = 7;

/** A run as one curve: what an attempt wrote after the next one had begun anew there does not count; of several writers the first by name. */
export function chain(lines: Line[], scale: Scale): Points {
  const [writer] = lines.map((line) => line.writer).sort();
  const own = lines.filter((line) => line.writer === writer).sort((a, b) => a.attempt - b.attempt);
  const found: Points = { x: [], values: [] };
  for (const [index, line] of own.entries()) {
    const next = own.slice(index + 1).reduce((least, later) => Math.min(least, later.steps[0] ?? Infinity), Infinity);
    const kept = line.steps.flatMap((step, at) => (step < next ? [at] : []));
    const pick = (list: number[]) => kept.map((at) => list[at] ?? NaN);
    const { x, values } = pointsOf({ ...line, steps: pick(line.steps), times: pick(line.times), values: pick(line.values) }, scale);
    found.x.push(...x);
    found.values.push(...values);
  }
  return found;
}

export interface Mean {
  x: number[];
  mean: number[];
  low: number[];
  high: number[];
  /** Curves that the mean is of. */
  counts: number[];
  /** Points of the curves that are not finite. */
  lost: { x: number; value: number }[];
}

const MOST_PLACES = 2000;

/**
 * The mean of curves wherever any of them has a point. A curve counts from its first finite point to its last, on a
 * straight line between two of them; a mean of curves of different lengths is that of those that are there.
 */
export function meanOf(curves: Points[]): Mean {
  const finite = curves.map(sortedFinite).filter((curve) => curve.x.length > 0);
  const places = [...new Set(finite.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const every = Math.max(1, Math.ceil(places.length / MOST_PLACES));
  const x = places.filter((_, index) => index % every === 0 || index === places.length - 1);
  const found: Mean = { x, mean: [], low: [], high: [], counts: [], lost: curves.flatMap(notFinite) };
  const next = finite.map(() => 0);
  for (const place of x) {
    const values = finite.flatMap((curve, index) => {
      while ((curve.x[next[index] ?? 0] ?? Infinity) < place) next[index] = (next[index] ?? 0) + 1;
      const value = valueAt(curve, next[index] ?? 0, place);
      return value === undefined ? [] : [value];
    });
    found.counts.push(values.length);
    found.mean.push(values.reduce((a, b) => a + b, 0) / values.length);
    found.low.push(Math.min(...values));
    found.high.push(Math.max(...values));
  }
  return found;
}

/** By place; of several points at one place the last. */
function sortedFinite({ x, values }: Points): Points {
  const byPlace = new Map<number, number>();
  for (const [at, place] of x.entries()) {
    const value = values[at] ?? NaN;
    if (Number.isFinite(value)) byPlace.set(place, value);
  }
  const sorted = [...byPlace].sort(([a], [b]) => a - b);
  return { x: sorted.map(([place]) => place), values: sorted.map(([, value]) => value) };
}

function notFinite({ x, values }: Points): { x: number; value: number }[] {
  return values.flatMap((value, at) => (Number.isFinite(value) ? [] : [{ x: x[at] ?? 0, value }]));
}

/** @param next index of the first point that is not before the place */
function valueAt({ x, values }: Points, next: number, place: number): number | undefined {
  const [right, left] = [x[next], x[next - 1]];
  if (right === undefined) return undefined;
  if (right === place) return values[next];
  if (left === undefined) return undefined;
  const [low, high] = [values[next - 1] ?? NaN, values[next] ?? NaN];
  return low + ((high - low) * (place - left)) / (right - left);
}

export interface GroupLines {
  group: Group;
  runs: RunLines[];
}

/** The runs of a metric in their groups; groups without one are left out. */
export function inGroups(runs: RunLines[], groups: Group[]): GroupLines[] {
  return groups.map((group) => ({ group, runs: runs.filter((run) => group.ids.includes(run.jobId)) })).filter((one) => one.runs.length > 0);
}
