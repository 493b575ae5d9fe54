/** Series of metrics as the page holds them: loaded once, then grown by the live stream. Pure. */
import type { Series, Streamed } from "../../api/client";

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

const toNumber = (value: number | string): number => (typeof value === "number" ? value : Number(value));

export function lineKey(name: string, attempt: number, writer: string): string {
  return `${name}\n${attempt}\n${writer}`;
}

export function fromSeries(series: Series[]): Lines {
  return new Map(
    series.map((one) => [
      lineKey(one.name, one.attempt, one.writer),
      { name: one.name, attempt: one.attempt, writer: one.writer, steps: one.steps, times: one.times, values: one.values.map(toNumber) },
    ]),
  );
}

/** The lines with the events' points added at their ends. Lines without a new point are the same objects as before. */
export function appended(lines: Lines, events: Streamed[]): Lines {
  if (events.length === 0) return lines;
  const grown = new Map(lines);
  const fresh = new Set<string>();
  for (const { event, attempt, writer } of events) {
    if (event.type !== "metrics") continue;
    for (const [name, value] of Object.entries(event.values)) {
      const key = lineKey(name, attempt, writer);
      let line = grown.get(key);
      if (!line || !fresh.has(key)) {
        line = line
          ? { ...line, steps: [...line.steps], times: [...line.times], values: [...line.values] }
          : { name, attempt, writer, steps: [], times: [], values: [] };
        grown.set(key, line);
        fresh.add(key);
      }
      line.steps.push(event.step);
      line.times.push(event.time);
      line.values.push(toNumber(value));
    }
  }
  return grown;
}

/**
 * Exponential moving average, weighted so that the first points are not pulled to zero; points that are not finite
 * neither count nor are hidden.
 * @param weight 0 leaves the line, 0.99 smooths over about 100 points
 */
export function smoothed(values: number[], weight: number): number[] {
  if (weight <= 0) return values;
  let sum = 0;
  let norm = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = sum * weight + value * (1 - weight);
    norm = norm * weight + (1 - weight);
    return sum / norm;
  });
}

export interface Figures {
  last: number | undefined;
  min: number;
  max: number;
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
  return { last: lines.at(-1)?.values.at(-1), min, max, numNonFinite };
}

export const FAMILIES = ["reward", "loss", "accuracy", "policy", "generation", "gradient", "time", "other", "native"] as const;
export type Family = (typeof FAMILIES)[number];

const RULES: [RegExp, Family][] = [
  [/^native\//, "native"],
  [/^(reward|zero_std|advantage)/, "reward"],
  [/loss/, "loss"],
  [/accuracy|^evaluated|^num_/, "accuracy"],
  [/^(entropy|kl_|clip_|approx_kl)/, "policy"],
  [/^(response_|generation_|diversity|tokens_)/, "generation"],
  [/^(grad_|weight_|learning_rate)/, "gradient"],
  [/^seconds_/, "time"],
];

export function family(name: string): Family {
  return RULES.find(([pattern]) => pattern.test(name))?.[1] ?? "other";
}
