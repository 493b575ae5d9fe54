/** What the tab of rollouts shows, as the address tells it. Pure. */
import type { Schemas } from "../../api/client";

export type Row = Schemas["RolloutRow"];
export type Page = Schemas["RolloutPage"];
export type Rollout = Schemas["RolloutView"];
export type History = Schemas["RolloutHistory"];
export type Detector = Schemas["DetectorView"];

export const SORTS = ["index", "reward", "advantage", "length"] as const;
export const COLOURINGS = ["none", "entropy", "kl", "logprob", "advantages"] as const;
export const LANES = ["tokens", "truncated", "diversity"] as const;
export type Colouring = (typeof COLOURINGS)[number];
export type Lane = (typeof LANES)[number];
/** Settings of the address that narrow the list down. */
export const FILTERS = ["q", "part", "rmin", "rmax", "lmin", "lmax", "cut"] as const;

export interface RolloutView {
  /** Null is the newest. */
  step: number | null;
  /** Place of the chosen completion in its step; null is the first of the list. */
  index: number | null;
  text: string;
  part: string | null;
  minReward: number | null;
  maxReward: number | null;
  minLength: number | null;
  maxLength: number | null;
  isTruncated: boolean | null;
  sort: (typeof SORTS)[number];
  isDescending: boolean;
  colouring: Colouring;
  lane: Lane;
  /** The detector whose story is open. */
  sign: string | null;
  isOverTime: boolean;
}

export function rolloutViewOf(address: URLSearchParams): RolloutView {
  const one = <T extends string>(name: string, known: readonly T[], first: T): T => known.find((value) => value === address.get(name)) ?? first;
  const figure = (name: string): number | null => {
    const text = address.get(name);
    return text !== null && text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : null;
  };
  const count = (name: string): number | null => {
    const value = figure(name);
    return value !== null && Number.isSafeInteger(value) && value >= 0 ? value : null;
  };
  const cut = address.get("cut");
  return {
    step: count("step"),
    index: count("at"),
    text: address.get("q") ?? "",
    part: address.get("part"),
    minReward: figure("rmin"),
    maxReward: figure("rmax"),
    minLength: count("lmin"),
    maxLength: count("lmax"),
    isTruncated: cut === "yes" ? true : cut === "no" ? false : null,
    sort: one("sort", SORTS, "index"),
    isDescending: address.get("down") === "1",
    colouring: one("colour", COLOURINGS, "entropy"),
    lane: one("lane", LANES, "tokens"),
    sign: address.get("sign"),
    isOverTime: address.get("time") === "1",
  };
}

/** What the server is asked for. */
export function pageQuery(view: RolloutView) {
  return {
    step: view.step ?? undefined,
    text: view.text || undefined,
    part: view.part ?? undefined,
    min_reward: view.minReward ?? undefined,
    max_reward: view.maxReward ?? undefined,
    min_length: view.minLength ?? undefined,
    max_length: view.maxLength ?? undefined,
    is_truncated: view.isTruncated ?? undefined,
    sort: view.sort,
    is_descending: view.isDescending,
  };
}

/** The row beside one; the first where none is chosen. */
export function beside(rows: readonly Row[], index: number | null, by: number): Row | undefined {
  const at = rows.findIndex((row) => row.index === index);
  return at < 0 ? rows[0] : rows[Math.min(rows.length - 1, Math.max(0, at + by))];
}

/** Number of the column that holds a step, or is nearest to it; -1 where there is none. */
export function columnOf(history: Pick<History, "first_steps" | "last_steps">, step: number): number {
  let [best, distance] = [-1, Infinity];
  history.first_steps.forEach((first, column) => {
    const last = history.last_steps[column] ?? first;
    const away = step < first ? first - step : step > last ? step - last : 0;
    if (away < distance) [best, distance] = [column, away];
  });
  return best;
}

/** A line through what is known, in a box of one by one, as the path of an SVG; what is not known parts it. */
export function pathOf(values: readonly (number | null)[]): { path: string; low: number; high: number } | null {
  const known = values.filter((value): value is number => value !== null);
  if (known.length === 0) return null;
  const low = known.reduce((a, b) => Math.min(a, b));
  const high = known.reduce((a, b) => Math.max(a, b));
  const width = 1 / values.length;
  let isDown = false;
  const parts = values.map((value, at) => {
    if (value === null) {
      isDown = false;
      return "";
    }
    const y = high > low ? 1 - (value - low) / (high - low) : 0.5;
    const [x, start] = [(at + 0.5) * width, !isDown];
    isDown = true;
    // A single point is a short line, or nobody would see it.
    return start ? `M${round(x)} ${round(y)}h${round(width / 4)}` : `L${round(x)} ${round(y)}`;
  });
  return { path: parts.join(""), low, high };
}

const round = (value: number): string => String(Number(value.toFixed(5)));
