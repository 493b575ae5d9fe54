/** What runs have in common and where they differ. Pure. */
import type { JobDetail } from "../../api/client";
import { byMetric, type Line, type Lines } from "../monitoring/series";

export const MIN_RUNS = 2;
export const MAX_RUNS = 20;

/** One of the runs that are compared; without `job` while it is loading or when there is none. */
export interface Compared {
  id: number;
  job: JobDetail | undefined;
  lines: Lines;
  error: unknown;
}

export type Known = Compared & { job: JobDetail };

/** The runs of the address in its order, each once; what is no number of a run is left out. */
export function chosenIds(text: string): { ids: number[]; numLeftOut: number } {
  const found = new Set(text.split(",").map((part) => part.trim()).filter((part) => /^[1-9]\d{0,14}$/.test(part)).map(Number));
  const ids = [...found].slice(0, MAX_RUNS);
  return { ids, numLeftOut: found.size - ids.length };
}

export type Scalar = string | number | boolean | null;

const isPlain = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * A job file's keys with dots, such as `task.optim.learning_rate`. Items of a list get their place as key where they
 * have keys themselves (`task.rewards.0.name`); other lists, and what is empty, are one value as JSON.
 */
export function flattened(value: unknown, path = ""): Map<string, Scalar> {
  const children = isPlain(value) || (Array.isArray(value) && value.some(isPlain)) ? Object.entries(value) : [];
  if (children.length > 0) {
    return new Map(children.flatMap(([key, child]) => [...flattened(child, path ? `${path}.${key}` : key)]));
  }
  if (value === undefined) return new Map();
  const isScalar = value === null || typeof value !== "object";
  return new Map([[path, isScalar ? (value as Scalar) : JSON.stringify(value)]]);
}

/** Told elsewhere: the name in the head of the table, the seed among the facts (the file may leave it to the server). */
const TOLD_ELSEWHERE = ["name", "seed"];

export function configOf(job: Pick<JobDetail, "spec">): Map<string, Scalar> {
  const found = flattened(job.spec);
  for (const key of TOLD_ELSEWHERE) found.delete(key);
  return found;
}

export interface Row {
  key: string;
  /** One per run; undefined where the run does not have the key. */
  values: (string | undefined)[];
  isDifferent: boolean;
}

export function row(key: string, values: (string | undefined)[]): Row {
  return { key, values, isDifferent: new Set(values).size > 1 };
}

/** A value as text; a text that reads like another kind of value stands in quotes. */
export function asText(value: Scalar): string {
  if (typeof value !== "string") return String(value);
  const readsAsOther = value === "" || /^(null|true|false)$/.test(value) || (value.trim() !== "" && Number.isFinite(Number(value)));
  return readsAsOther ? JSON.stringify(value) : value;
}

/** One row for each key that any of the runs has, in the order of the keys. */
export function configRows(configs: Map<string, Scalar>[]): Row[] {
  const keys = [...new Set(configs.flatMap((config) => [...config.keys()]))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return keys.map((key) =>
    row(
      key,
      configs.map((config) => {
        const value = config.get(key);
        return value === undefined ? undefined : asText(value);
      }),
    ),
  );
}

/** Whether a cell differs from the first run's. */
export function isMarked(one: Row, index: number): boolean {
  return one.values[index] !== one.values[0];
}

export interface RunLines {
  jobId: number;
  name: string;
  /** In the order of the attempts. */
  lines: Line[];
}

/** The metrics of any of the runs, the main ones first, each with the lines of the runs that have it. */
export function unionOfMetrics(runs: { id: number; name: string; lines: Lines }[], filter: string): [string, RunLines[]][] {
  const own = runs.map((run) => ({ ...run, metrics: new Map(byMetric(run.lines, filter)) }));
  const everyLine = own.flatMap((run) => [...run.lines].map(([key, line]): [string, Line] => [`${run.id}\n${key}`, line]));
  return byMetric(new Map(everyLine), filter).map(([metric]): [string, RunLines[]] => [
    metric,
    own.flatMap((run) => {
      const lines = run.metrics.get(metric);
      return lines ? [{ jobId: run.id, name: run.name, lines }] : [];
    }),
  ]);
}

/** What was held, for each line that did not change since: a refetch then draws only the charts that grew. */
export function shared(before: Lines | undefined, after: Lines): Lines {
  if (!before) return after;
  const found = new Map([...after].map(([key, line]): [string, Line] => [key, isSame(before.get(key), line) ? (before.get(key) ?? line) : line]));
  const isAll = before.size === found.size && [...found].every(([key, line]) => before.get(key) === line);
  return isAll ? before : found;
}

function isSame(before: Line | undefined, after: Line): boolean {
  return before !== undefined && before.steps.length === after.steps.length && before.times[0] === after.times[0] && before.times.at(-1) === after.times.at(-1);
}

/** A number that runs can be placed by: a numeric key of the job file, or a metric's newest value. */
export interface Dimension {
  /** `task.optim.learning_rate`, `value:reward_mean`. */
  id: string;
  label: string;
  isMetric: boolean;
  /** One per run. */
  values: (number | undefined)[];
  /** Seeds that the server drew, which always differ, do not count. */
  isDifferent: boolean;
}

const METRIC = "value:";
const MAIN = ["reward_mean", "accuracy", "loss"].map((name) => METRIC + name);

export function dimensions(jobs: Pick<JobDetail, "spec" | "seed" | "last_values">[]): Dimension[] {
  const configs = jobs.map((job) => new Map<string, Scalar>([["seed", job.seed], ...configOf(job)]));
  const values = jobs.map((job) => new Map(Object.entries(job.last_values)));
  const isSeedGiven = jobs.every((job) => typeof job.spec["seed"] === "number");
  const given = numeric(configs, "").map((one) => (one.id === "seed" ? { ...one, isDifferent: one.isDifferent && isSeedGiven } : one));
  return [...given, ...numeric(values, METRIC)];
}

function numeric(sources: Map<string, Scalar>[], prefix: string): Dimension[] {
  const keys = [...new Set(sources.flatMap((source) => [...source.keys()]))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return keys.flatMap((key) => {
    const values = sources.map((source) => {
      const value = source.get(key);
      return typeof value === "number" && Number.isFinite(value) ? value : undefined;
    });
    if (values.every((value) => value === undefined)) return [];
    return [{ id: prefix + key, label: key, isMetric: prefix !== "", values, isDifferent: new Set(values).size > 1 }];
  });
}

/** The dimensions that are shown first: keys that differ, then the main metrics. */
export function defaultAxes(found: Dimension[]): string[] {
  const differing = found.filter((one) => !one.isMetric && one.isDifferent).map((one) => one.id);
  return [...differing, ...MAIN.filter((id) => found.some((one) => one.id === id))];
}

/** What a scatter plot shows first: the first key that differs, against the main metric. */
export function defaultPair(found: Dimension[]): [string | undefined, string | undefined] {
  const config = found.filter((one) => !one.isMetric);
  const metrics = found.filter((one) => one.isMetric);
  const x = config.find((one) => one.isDifferent && one.id !== "seed") ?? config.find((one) => one.isDifferent) ?? config[0] ?? metrics[0];
  const y = MAIN.map((id) => metrics.find((one) => one.id === id)).find((one) => one !== undefined) ?? metrics[0] ?? config[1] ?? config[0];
  return [x?.id, y?.id];
}

export interface ParallelAxis {
  dimension: Dimension;
  name: string;
  isLog: boolean;
}

const LOG_FROM = 50;

/** One axis for each chosen dimension that the runs have, in the order of the choice. */
export function parallelAxes(found: Dimension[], chosen: string[]): ParallelAxis[] {
  const own = chosen.flatMap((id) => found.find((one) => one.id === id) ?? []);
  const names = shortNames(own.map((one) => one.label));
  return own.map((dimension, index) => ({ dimension, name: names[index] ?? dimension.label, isLog: spreadsWide(dimension.values) }));
}

function spreadsWide(values: (number | undefined)[]): boolean {
  const known = values.filter((value) => value !== undefined);
  return Math.min(...known) > 0 && Math.max(...known) / Math.min(...known) >= LOG_FROM;
}

/** The shortest endings (`learning_rate`, `optim.steps`) that still tell the keys apart. */
export function shortNames(keys: string[]): string[] {
  return keys.map((key) => {
    const parts = key.split(".");
    const ending = (length: number) => parts.slice(parts.length - length).join(".");
    for (let length = 1; length < parts.length; length += 1) {
      const short = ending(length);
      if (keys.every((other) => other === key || (other !== short && !other.endsWith(`.${short}`)))) return short;
    }
    return key;
  });
}
