/** What the horizontal axis of a chart counts, and where on it the points of a run lie. Pure. */
import type { Line, Lines } from "./series";

export const AXES = ["step", "time", "elapsed", "tokens"] as const;
export type Axis = (typeof AXES)[number];

/** Where each run's clock starts, and the unit that keeps the axis short. */
export interface Clock {
  /** Seconds since the epoch of each run's first point of any metric. */
  starts: ReadonlyMap<number, number>;
  unit: TimeUnit;
}

export interface TimeUnit {
  name: "s" | "min" | "h";
  seconds: number;
}

const UNITS: TimeUnit[] = [{ name: "s", seconds: 1 }, { name: "min", seconds: 60 }, { name: "h", seconds: 3600 }];
const MOST_OF_A_UNIT = 20_000;

export function clockOf(runs: { id: number; lines: Lines }[]): Clock {
  const starts = new Map<number, number>();
  let longest = 0;
  for (const { id, lines } of runs) {
    let start = Infinity;
    let end = -Infinity;
    for (const { times } of lines.values()) {
      start = Math.min(start, times[0] ?? Infinity);
      end = Math.max(end, times.at(-1) ?? -Infinity);
    }
    if (start > end) continue;
    starts.set(id, start);
    longest = Math.max(longest, end - start);
  }
  const unit = UNITS.find(({ seconds }) => longest / seconds < MOST_OF_A_UNIT) ?? { name: "h", seconds: 3600 };
  return { starts, unit };
}

/** Tokens since the start of the run, as our engines and common trainers name it; the first that the run has. */
const TOKENS = [/^tokens_seen$/, /(^|[./])(num_tokens|tokens_seen|num_input_tokens_seen|total_tokens)$/];

/** The lines that count tokens; none where the run does not. */
export function tokenLines(lines: Lines): Line[] {
  for (const pattern of TOKENS) {
    const name = [...new Set([...lines.values()].map((line) => line.name))].sort().find((one) => pattern.test(one));
    if (name !== undefined) return [...lines.values()].filter((line) => line.name === name);
  }
  return [];
}

interface Curve {
  steps: number[];
  values: number[];
}

/** Tokens by step, for each attempt. */
export type Tokens = ReadonlyMap<number, Curve>;

export function tokensOf(lines: Line[]): Tokens {
  const found = new Map<number, Curve>();
  for (const line of lines) {
    if (found.has(line.attempt)) continue;
    const rising = line.steps
      .map((step, at): [number, number] => [step, line.values[at] ?? NaN])
      .filter(([, value]) => Number.isFinite(value))
      .sort(([a], [b]) => a - b);
    found.set(line.attempt, { steps: rising.map(([step]) => step), values: rising.map(([, value]) => value) });
  }
  return found;
}

/** Between two steps that have a number of tokens a straight line; NaN before the first and after the last. */
export function tokensAt({ steps, values }: Curve, step: number): number {
  const at = firstNotBelow(steps, step);
  const [next, before] = [steps[at], steps[at - 1]];
  if (next === undefined) return NaN;
  if (next === step) return values[at] ?? NaN;
  if (before === undefined) return NaN;
  const [low, high] = [values[at - 1] ?? NaN, values[at] ?? NaN];
  return low + ((high - low) * (step - before)) / (next - before);
}

/** Index of the first entry that is not below the value; the length where there is none. */
export function firstNotBelow(rising: number[], value: number): number {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rising[middle] ?? Infinity) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What the axis needs to know of the run that a line is of. */
export interface Scale {
  axis: Axis;
  /** Seconds since the epoch. */
  start: number;
  unit: TimeUnit;
  tokens: Tokens;
}

export const BY_STEP: Scale = { axis: "step", start: 0, unit: { name: "s", seconds: 1 }, tokens: new Map() };

/** Fewer than a clock has: an axis writes its ends out in full. */
const DIGITS = 6;

/** Places on the axis: steps, milliseconds since the epoch, units of time since the start, or tokens. */
function places(line: Line, { axis, start, unit, tokens }: Scale): number[] {
  if (axis === "step") return line.steps;
  if (axis === "time") return line.times.map((time) => 1000 * time);
  if (axis === "elapsed") return line.times.map((time) => Number(((time - start) / unit.seconds).toPrecision(DIGITS)));
  const own = tokens.get(line.attempt);
  return line.steps.map((step) => (own ? Math.round(tokensAt(own, step)) : NaN));
}

export interface Points {
  x: number[];
  values: number[];
}

/** The points of a line that have a place on the axis. */
export function pointsOf(line: Line, scale: Scale): Points {
  const x = places(line, scale);
  if (x.every((place) => Number.isFinite(place))) return { x, values: line.values };
  const kept = x.flatMap((place, at) => (Number.isFinite(place) ? [at] : []));
  return { x: kept.map((at) => x[at] ?? 0), values: kept.map((at) => line.values[at] ?? NaN) };
}

/** First and last step of what is drawn between two places, the neighbours included; null where there is nothing. */
export function stepsWithin(lines: Line[], scale: Scale, from: number, to: number): [number, number] | null {
  let first = Infinity;
  let last = -Infinity;
  for (const line of lines) {
    const x = places(line, scale);
    for (const [at, step] of line.steps.entries()) {
      const isNear = [at - 1, at, at + 1].some((near) => (x[near] ?? NaN) >= from && (x[near] ?? NaN) <= to);
      const next = x[at + 1] ?? NaN;
      const isAround = (x[at] ?? NaN) < from && next > to;
      if (isNear || isAround) first = Math.min(first, step);
      if (isNear || isAround) last = Math.max(last, isAround ? (line.steps[at + 1] ?? step) : step);
    }
  }
  return first <= last ? [first, last] : null;
}
