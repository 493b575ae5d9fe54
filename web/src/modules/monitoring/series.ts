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
  /** More points are stored than are here. */
  isThinned: boolean;
}

export type Lines = ReadonlyMap<string, Line>;

export interface Held {
  lines: Lines;
  /** Newest cursor that the lines contain; what is not newer is not added again. */
  cursor: number;
  /** Metrics that were read later than at `cursor`, and at which one. */
  since: ReadonlyMap<string, number>;
}

export const NOTHING: Held = { lines: new Map(), cursor: 0, since: new Map() };

const toNumber = (value: number | string): number => (typeof value === "number" ? value : Number(value));

export function lineKey(name: string, attempt: number, writer: string): string {
  return `${name}\n${attempt}\n${writer}`;
}

export function fromPage(page: Schemas["SeriesPage"]): Held {
  const lines = page.series.map((one): [string, Line] => [
    lineKey(one.name, one.attempt, one.writer),
    {
      name: one.name,
      attempt: one.attempt,
      writer: one.writer,
      steps: one.steps,
      times: one.times,
      values: one.values.map(toNumber),
      isThinned: one.num_points > one.values.length,
    },
  ]);
  return { lines: new Map(lines), cursor: page.cursor, since: new Map() };
}

/** What is held, with the metrics of a page that was read later. */
export function joined(held: Held, page: Schemas["SeriesPage"]): Held {
  const { lines, cursor } = fromPage(page);
  const since = [...lines.values()].map((line): [string, number] => [line.name, cursor]);
  return { lines: new Map([...held.lines, ...lines]), cursor: held.cursor, since: new Map([...held.since, ...since]) };
}

/** A line with a stretch of it in more detail. */
export function spliced(line: Line, detail: Line | undefined): Line {
  const [first, last] = [detail?.steps[0], detail?.steps.at(-1)];
  if (!detail || first === undefined || last === undefined) return line;
  const before = line.steps.flatMap((step, at) => (step < first ? [at] : []));
  const after = line.steps.flatMap((step, at) => (step > last ? [at] : []));
  const both = (own: number[], fine: number[]) => [...before.map((at) => own[at] ?? NaN), ...fine, ...after.map((at) => own[at] ?? NaN)];
  return { ...line, steps: both(line.steps, detail.steps), times: both(line.times, detail.times), values: both(line.values, detail.values) };
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
      if (at <= (held.since.get(name) ?? 0)) continue;
      const key = lineKey(name, attempt, writer);
      let line = lines.get(key);
      if (!line || !fresh.has(key)) {
        line = line
          ? { ...line, steps: [...line.steps], times: [...line.times], values: [...line.values] }
          : { name, attempt, writer, steps: [], times: [], values: [], isThinned: false };
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
  return cursor === held.cursor ? held : { lines, cursor, since: held.since };
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
  return { ...line, steps: pick(line.steps), times: pick(line.times), values: pick(line.values), isThinned: true };
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

/** Lines that did not grow are the same objects. */
export function areSame(before: readonly Line[], after: readonly Line[]): boolean {
  return before.length === after.length && before.every((line, index) => line === after[index]);
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
  [/^(entropy|kl_|clip_|approx_kl|logp_|log_odds)/, "policy"],
  [/^(response_|generation_|diversity|tokens_)/, "generation"],
  [/^(grad_|weight_|learning_rate|value_(grad_norm|learning_rate))/, "gradient"],
  [/^(seconds_|model_flops_)/, "time"],
];

export function family(name: string): Family {
  return RULES.find(([pattern]) => pattern.test(name))?.[1] ?? "other";
}

const MAIN = ["loss", "reward_mean", "accuracy", "preference_accuracy", "reward_margin", "entropy", "grad_norm", "seconds_per_step"];

/** Lines by metric name: the main ones first, then by name; attempts in order. A filter that is no regular expression matches as text. */
export function byMetric(lines: Lines, filter: string): [string, Line[]][] {
  const matches = matcher(filter);
  const found = new Map<string, Line[]>();
  for (const line of lines.values()) {
    if (matches(line.name)) found.set(line.name, [...(found.get(line.name) ?? []), line]);
  }
  for (const own of found.values()) own.sort((a, b) => a.attempt - b.attempt);
  return inOrder([...found.keys()]).map((name) => [name, found.get(name) ?? []]);
}

function inOrder(names: string[]): string[] {
  const isMain = (name: string) => (MAIN.includes(name) ? 0 : 1);
  return names.sort((a, b) => isMain(a) - isMain(b) || a.localeCompare(b));
}

/** The metrics in the sections of a page. */
export function inFamilies<T>(metrics: [string, T][]): [Family, [string, T][]][] {
  return FAMILIES.map((name): [Family, [string, T][]] => [name, metrics.filter(([metric]) => family(metric) === name)]).filter(([, own]) => own.length > 0);
}

const FIRST_BATCH = 4;
const BATCH = 12;
/** Up to this many stored points one answer holds all metrics without a wait. */
const POINTS_AT_ONCE = 200_000;

/** Names in the order in which the page shows them, in lists that are asked for one after the other. */
export function batches(known: { name: string; num_points: number }[]): string[][] {
  const names = [...new Set(known.map((one) => one.name))];
  const order = inFamilies(inOrder(names).map((name) => [name, name])).flatMap(([, own]) => own.map(([name]) => name));
  if (known.reduce((sum, one) => sum + one.num_points, 0) <= POINTS_AT_ONCE) return order.length > 0 ? [order] : [];
  const found = [order.slice(0, FIRST_BATCH)];
  for (let at = FIRST_BATCH; at < order.length; at += BATCH) found.push(order.slice(at, at + BATCH));
  return found;
}

/** Whether a filter is a regular expression; what is none is matched as text. */
export function isPattern(filter: string): boolean {
  try {
    new RegExp(filter, "i");
    return true;
  } catch {
    return false;
  }
}

function matcher(filter: string): (name: string) => boolean {
  if (!isPattern(filter)) return (name) => name.toLowerCase().includes(filter.toLowerCase());
  const pattern = new RegExp(filter, "i");
  return (name) => pattern.test(name);
}
