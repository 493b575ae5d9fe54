/** Series of metrics as the page holds them: loaded once, then grown by the live stream. Pure. */
import type { Schemas, Streamed } from "../../api/client";

export interface Line {
  name: string;
  attempt: number;
  writer: string;
  steps: number[];
  /** Seconds since the epoch. */
  times: number[];
  /** NaN and infinities as such. */
  values: number[];
}

export type Lines = ReadonlyMap<string, Line>;

export interface Held {
  lines: Lines;
  /** Newest cursor that the lines contain; what is not newer is not added again. */
  cursor: number;
}

export const NOTHING: Held = { lines: new Map(), cursor: 0 };

const toNumber = (value: number | string): number => (typeof value === "number" ? value : Number(value));

function lineKey(name: string, attempt: number, writer: string): string {
  return `${name}\n${attempt}\n${writer}`;
}

export function fromPage(page: Schemas["SeriesPage"]): Held {
  const lines = page.series.map((one): [string, Line] => [
    lineKey(one.name, one.attempt, one.writer),
    { name: one.name, attempt: one.attempt, writer: one.writer, steps: one.steps, times: one.times, values: one.values.map(toNumber) },
  ]);
  return { lines: new Map(lines), cursor: page.cursor };
}

/**
 * What is held, with the events' points added in the order of their cursors, each once. Lines without a new point are
 * the same objects as before.
 * @param maxPoints a line longer than twice this is thinned to it, so that a page left open for nights stays quick
 */
export function grown(held: Held, events: Streamed[], maxPoints = Infinity): Held {
  const lines = new Map(held.lines);
  const fresh = new Set<string>();
  let cursor = held.cursor;
  for (const { cursor: at, event, attempt, writer } of [...events].sort((a, b) => a.cursor - b.cursor)) {
    if (at <= cursor) continue;
    cursor = at;
    if (event.type !== "metrics") continue;
    for (const [name, value] of Object.entries(event.values)) {
      const key = lineKey(name, attempt, writer);
      let line = lines.get(key);
      if (!line || !fresh.has(key)) {
        line = line
          ? { ...line, steps: [...line.steps], times: [...line.times], values: [...line.values] }
          : { name, attempt, writer, steps: [], times: [], values: [] };
        lines.set(key, line);
        fresh.add(key);
      }
      line.steps.push(event.step);
      line.times.push(event.time);
      line.values.push(toNumber(value));
    }
  }
  for (const key of fresh) {
    const line = lines.get(key);
    if (line && line.steps.length > 2 * maxPoints) lines.set(key, thinned(line, maxPoints));
  }
  return cursor === held.cursor ? held : { lines, cursor };
}

/** At most `maxPoints` finite points, the ends and the extremes of each stretch among them; what is not finite stays. */
export function thinned(line: Line, maxPoints: number): Line {
  const size = Math.ceil((4 * line.values.length) / maxPoints);
  const kept: number[] = [];
  for (let start = 0; start < line.values.length; start += size) {
    const end = Math.min(start + size, line.values.length);
    const chosen = new Set([start, end - 1]);
    let lowest = start;
    let highest = start;
    for (let at = start; at < end; at += 1) {
      const value = line.values[at] ?? NaN;
      if (!Number.isFinite(value)) chosen.add(at);
      else {
        if (!(value >= (line.values[lowest] ?? NaN))) lowest = at;
        if (!(value <= (line.values[highest] ?? NaN))) highest = at;
      }
    }
    kept.push(...[...chosen.add(lowest).add(highest)].sort((a, b) => a - b));
  }
  const pick = (list: number[]) => kept.map((at) => list[at] ?? NaN);
  return { ...line, steps: pick(line.steps), times: pick(line.times), values: pick(line.values) };
}

/**
 * Exponential moving average, weighted so that the first points are not pulled to zero; points that are not finite
 * neither count nor are hidden. A constant stays exactly what it is.
 * @param weight 0 leaves the line, 0.99 smooths over about 100 points
 */
export function smoothed(values: number[], weight: number): number[] {
  if (weight <= 0) return values;
  let mean = 0;
  let left = 1;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    left *= weight;
    mean += (value - mean) * ((1 - weight) / (1 - left));
    return mean;
  });
}

export interface Figures {
  last: number | undefined;
  min: number | undefined;
  max: number | undefined;
  numNonFinite: number;
}

export function figures(lines: Line[]): Figures {
  let min = Infinity;
  let max = -Infinity;
  let numNonFinite = 0;
  for (const line of lines) {
    for (const value of line.values) {
      if (!Number.isFinite(value)) numNonFinite += 1;
      else {
        min = Math.min(min, value);
        max = Math.max(max, value);
      }
    }
  }
  const isAny = min <= max;
  return { last: lines.at(-1)?.values.at(-1), min: isAny ? min : undefined, max: isAny ? max : undefined, numNonFinite };
}

export const FAMILIES = ["loss", "reward", "accuracy", "policy", "generation", "gradient", "time", "other", "native"] as const;
export type Family = (typeof FAMILIES)[number];

const RULES: [RegExp, Family][] = [
  [/^native\//, "native"],
  [/^(reward|zero_std|advantage)/, "reward"],
  [/loss/, "loss"],
  [/accuracy|^evaluated|^num_(samples|correct)/, "accuracy"],
  [/^(entropy|kl_|clip_|approx_kl)/, "policy"],
  [/^(response_|generation_|diversity|tokens_)/, "generation"],
  [/^(grad_|weight_|learning_rate)/, "gradient"],
  [/^seconds_/, "time"],
];

export function family(name: string): Family {
  return RULES.find(([pattern]) => pattern.test(name))?.[1] ?? "other";
}

const MAIN = ["loss", "reward_mean", "accuracy", "entropy", "grad_norm", "seconds_per_step"];

/** Lines by metric name: the main ones first, then by name; attempts in order. A filter that is no regular expression matches as text. */
export function byMetric(lines: Lines, filter: string): [string, Line[]][] {
  const matches = matcher(filter);
  const found = new Map<string, Line[]>();
  for (const line of lines.values()) {
    if (matches(line.name)) found.set(line.name, [...(found.get(line.name) ?? []), line]);
  }
  for (const own of found.values()) own.sort((a, b) => a.attempt - b.attempt);
  const isMain = (name: string) => (MAIN.includes(name) ? 0 : 1);
  return [...found].sort(([a], [b]) => isMain(a) - isMain(b) || a.localeCompare(b));
}

function matcher(filter: string): (name: string) => boolean {
  try {
    const pattern = new RegExp(filter, "i");
    return (name) => pattern.test(name);
  } catch {
    return (name) => name.toLowerCase().includes(filter.toLowerCase());
  }
}
