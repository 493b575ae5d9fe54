/** What a heatmap of gradients is drawn from: its scale, two runs against each other, histograms. Pure. */
import type { Schemas } from "../../api/client";
import type { ColourScale } from "../../ui/heatmapOptions";

export type Window = Schemas["GradientWindow"];
export type Histogram = Schemas["GradientHistogram"];
export type Metric = Window["metric"];
export type By = Window["by"];
export type Column = Schemas["GradientColumn"];
export type Cells = (number | null)[][];

export const METRICS: Metric[] = [
  "norm", "mean", "std", "variance", "min", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "max",
  "share_non_finite", "weight_norm", "weight_update_ratio", "activation_rms",
];
/** Below and above zero mean different things. */
const SIGNED: readonly Metric[] = ["mean", "min", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "max"];

export const isSigned = (metric: Metric): boolean => SIGNED.includes(metric);

export const SCALES = ["auto", "linear", "log"] as const;
export type ScaleName = (typeof SCALES)[number];

/** A range this much wider than its lower end is read on a logarithmic scale. */
const WIDE = 50;
const DIFFERENT = 1e-9;

/** The value below which a share of the values lies. */
export function quantile(sorted: readonly number[], share: number): number {
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)] ?? NaN, sorted[Math.ceil(place)] ?? NaN];
  return low + (high - low) * (place - Math.floor(place));
}

interface Wish {
  name: ScaleName;
  /** Share of the values beyond either end. */
  clipped: number;
  /** Below and above `middle` mean different things. */
  isDiverging: boolean;
  /** Values are ratios: 1 is the middle, and twice is as far as half. */
  isRatio?: boolean;
}

/** The scale that fits some values; null where there are none. */
export function scaleOf(cells: Cells, wish: Wish): ColourScale | null {
  const values = cells.flat().filter((value): value is number => value !== null && (!wish.isRatio || value > 0)).sort((a, b) => a - b);
  if (values.length === 0) return null;
  if (wish.isRatio) return symmetric(values.map(Math.log2), wish.clipped, (value) => Math.log2(value), (place) => 2 ** place, true);
  if (wish.isDiverging) {
    const unit = quantile(values.map(Math.abs).filter((size) => size > 0).sort((a, b) => a - b), 0.25);
    const sizes = values.map(Math.abs).sort((a, b) => a - b);
    const isLog = wish.name === "log" || (wish.name === "auto" && (sizes.at(-1) ?? 0) > WIDE * unit);
    if (!isLog || !Number.isFinite(unit)) return symmetric(values, wish.clipped, (value) => value, (place) => place, false);
    const forward = (value: number) => Math.asinh(value / unit);
    return symmetric(values.map(forward), wish.clipped, forward, (place) => Math.sinh(place) * unit, true);
  }
  const positive = values.filter((value) => value > 0);
  const isLog = positive.length > 0 && (wish.name === "log" || (wish.name === "auto" && (positive.at(-1) ?? 0) > WIDE * quantile(positive, 0.05)));
  if (!isLog) return between(values, wish.clipped, (value) => value, (place) => place, false);
  const least = Math.log10(positive[0] ?? 1);
  return between(positive.map(Math.log10), wish.clipped, (value) => (value > 0 ? Math.log10(value) : least), (place) => 10 ** place, true);
}

function between(places: number[], clipped: number, forward: ColourScale["forward"], backward: ColourScale["backward"], isLog: boolean): ColourScale {
  const [min, max] = [quantile(places, clipped), quantile(places, 1 - clipped)];
  const isClipped = min > (places[0] ?? min) || max < (places.at(-1) ?? max);
  const room = max - min > DIFFERENT * Math.max(Math.abs(min), Math.abs(max)) ? 0 : Math.max(Math.abs(max) / 2, DIFFERENT);
  return { forward, backward, min: min - room, max: max + room, isLog, isDiverging: false, isClipped };
}

/** Both ends as far from zero. */
function symmetric(places: number[], clipped: number, forward: ColourScale["forward"], backward: ColourScale["backward"], isLog: boolean): ColourScale {
  const sizes = places.map(Math.abs).sort((a, b) => a - b);
  const largest = sizes.at(-1) ?? 0;
  const end = quantile(sizes, 1 - clipped) || largest || 1;
  return { forward, backward, min: -end, max: end, isLog, isDiverging: true, isClipped: end < largest };
}

/** One run over the other, or less the other where values have signs: rows by name, columns by the steps they stand for. */
export function against(one: Window, other: Window): Cells {
  const rows = new Map(other.rows.map((row, index) => [`${row.first} ${row.last}`, index]));
  const columns = one.columns.map((column) => columnAt(other.columns, column));
  return one.values.map((values, index) => {
    const row = one.rows[index];
    const beside = other.values[(row && rows.get(`${row.first} ${row.last}`)) ?? -1];
    return values.map((value, place) => {
      const from = beside?.[columns[place] ?? -1];
      if (value === null || from === null || from === undefined) return null;
      if (isSigned(one.metric)) return value - from;
      return from > 0 && value > 0 ? value / from : null;
    });
  });
}

/** The column that has a column's last step, or overlaps it; -1 where none does. */
export function columnAt(columns: readonly Column[], { first_step, last_step }: Column): number {
  const exact = columns.findIndex((column) => column.first_step <= last_step && last_step <= column.last_step);
  return exact >= 0 ? exact : columns.findIndex((column) => column.first_step <= last_step && first_step <= column.last_step);
}

/** What a parameter's name says beyond where all of them lie. */
export function shortName(name: string): string {
  return name.replace(/^(base_model\.)?(model\.)*((?:transformer|backbone)\.)?(layers?|h|blocks?)\./, "").replace(/^(base_model\.)?(model\.)+/, "").replace(/\.weight$/, "");
}

export interface Bar {
  /** Power of two; null is what is too small for one, zero among it. */
  exponent: number | null;
  sign: -1 | 1;
  count: number;
}

/** All that is smaller than any power of two that a float32 has. */
const NOTHING = -127;

/** The bins from the most negative to the most positive, what is nothing in the middle. */
export function bars({ exponents, negative, positive }: Pick<Histogram, "exponents" | "negative" | "positive">): Bar[] {
  const all = exponents.map((exponent, index) => ({ exponent, below: negative[index] ?? 0, above: positive[index] ?? 0 }));
  const nothing = all.filter(({ exponent }) => exponent === NOTHING).reduce((sum, { below, above }) => sum + below + above, 0);
  const there = all.filter(({ exponent, below, above }) => exponent !== NOTHING && below + above > 0);
  const [first, last] = [there[0]?.exponent ?? 0, there.at(-1)?.exponent ?? -1];
  const shown = all.filter(({ exponent }) => exponent !== NOTHING && exponent >= first && exponent <= last);
  return [
    ...[...shown].reverse().map(({ exponent, below }): Bar => ({ exponent, sign: -1, count: below })),
    ...(nothing > 0 ? [{ exponent: null, sign: 1, count: nothing } as Bar] : []),
    ...shown.map(({ exponent, above }): Bar => ({ exponent, sign: 1, count: above })),
  ];
}
