/** What one types for the same job: overrides against the recipe that it started from. Pure. */
import { isObject, isSame } from "../../ui/schema";

export interface Override {
  key: string;
  value: unknown;
}

/** The smallest overrides that turn one complete job file into another. */
export function overrides(recipe: unknown, job: unknown, prefix = ""): Override[] {
  if (isSame(recipe, job)) return [];
  const whole = prefix === "" ? [] : [{ key: prefix, value: job }];
  const parts = inner(recipe, job);
  if (!parts) return whole;
  const found = parts.map(([key, before, after]) => overrides(before, after, prefix ? `${prefix}.${key}` : key));
  return found.flat();
}

/** Keys with what is there before and after; null where a key would have to go, which no override can do. */
function inner(before: unknown, after: unknown): [string, unknown, unknown][] | null {
  if (Array.isArray(before) && Array.isArray(after)) {
    return before.length === after.length ? after.map((item, index) => [String(index), before[index] as unknown, item as unknown]) : null;
  }
  if (!isObject(before) || !isObject(after)) return null;
  if (Object.keys(before).some((key) => !(key in after) || key.includes("."))) return null;
  return Object.entries(after).map(([key, item]) => [key, before[key], item]);
}

/** A word of a command line, in quotes where the shell would read it otherwise. */
export function quoted(word: string): string {
  return /^[\w./@:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** One line for each override, as `finery run` and `finery jobs submit` take them. */
export function options(found: Override[]): string[] {
  return found.map(({ key, value }) => `--set ${quoted(`${key}=${valueText(value)}`)}`);
}

function valueText(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value);
  return /^[A-Za-z_/][\w./@ -]*$/.test(value) && !/^(true|false|null)$/i.test(value) ? value : JSON.stringify(value);
}

/** A command over several lines. */
export function command(program: string, found: Override[]): string {
  return [program, ...options(found)].join(" \\\n  ");
}
