/** What ECharts is told to draw for one metric. Pure. */
import type { CustomSeriesRenderItemAPI, CustomSeriesRenderItemParams } from "echarts";
import { number } from "../app/format";
import { visible, type Stretch } from "./stretch";

export interface ChartLine {
  name: string;
  /** Step, tokens, time since the start, or milliseconds since the epoch. */
  x: number[];
  raw: number[];
  /** What is drawn strong; the same array as `raw` when nothing is smoothed. */
  shown: number[];
  colour: string;
  /** Drawn paler: an attempt that a newer one went on from. */
  isOld: boolean;
  /** Of a mean: the lowest and highest of what it is the mean of, drawn as an area, and what the tooltip says of it. */
  spread?: Spread;
  /** Of a mean: what is not finite among what it is the mean of. */
  lost?: { x: number; value: number }[];
}

export interface Spread {
  low: number[];
  high: number[];
  texts: string[];
}

/** A stretch of the axis with its own background. */
export interface Band {
  name: string;
  from: number;
  to: number;
}

export interface ChartLook {
  isTime: boolean;
  isLog: boolean;
  isDark: boolean;
  isLogX?: boolean;
  /** The value axis leaves out the values that lie farthest out. */
  isClipped?: boolean;
  /** What of the horizontal axis is shown; all where there is none. */
  stretch?: Stretch | null;
}

export interface NonFiniteMark {
  x: number;
  text: "NaN" | "+\u221e" | "\u2212\u221e";
  line: string;
}

const MARK_COLOUR = "#D55E00";

/** The points that no line can go through, in the order of the lines. */
export function nonFiniteMarks(lines: ChartLine[]): NonFiniteMark[] {
  return lines.flatMap((line) => {
    const own = line.raw.flatMap((value, index) => (Number.isFinite(value) ? [] : [{ x: line.x[index] ?? 0, value }]));
    return [...own, ...(line.lost ?? [])].map(({ x, value }): NonFiniteMark => {
      const text = Number.isNaN(value) ? "NaN" : value > 0 ? "+\u221e" : "\u2212\u221e";
      return { x, text, line: line.name };
    });
  });
}

export interface Ends {
  min?: number;
  max?: number;
  interval?: number;
}

/** Share of the values that a clipped axis may leave out. */
const LEFT_OUT = 0.01;
const FEWEST_TO_CLIP = 5;
const PADDING = 0.05;

/**
 * Ends for the value axis: none, which lets it fit what is there, but where the spread is rounding noise, which would
 * otherwise fill the chart, and where the axis is clipped.
 */
export function axisEnds(lines: ChartLine[], { isLog, isClipped }: Partial<ChartLook> = {}): Ends {
  const values = lines.flatMap((line) => line.raw.filter((value) => Number.isFinite(value) && (!isLog || value > 0)));
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const greatest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (isClipped && least < greatest && values.length >= FEWEST_TO_CLIP) return clippedEnds(values, isLog ?? false);
  return isLog ? {} : steadyEnds(least, greatest);
}

function steadyEnds(min: number, max: number): Ends {
  if (min > max) return { min: 0, max: 1 };
  const size = Math.max(Math.abs(min), Math.abs(max));
  if (max - min > 1e-6 * size) return {};
  if (size === 0) return { min: -1, max: 1, interval: 1 };
  return { min: min - size / 2, max: max + size / 2, interval: size / 2 };
}

/** Ends around all but the hundredth of the values (one at least) that lies farthest from their median. */
function clippedEnds(values: number[], isLog: boolean): Ends {
  const there = values.map((value) => (isLog ? Math.log10(value) : value)).sort((a, b) => a - b);
  const median = there[there.length >> 1] ?? 0;
  let [first, last] = [0, there.length - 1];
  for (let left = Math.max(1, Math.round(LEFT_OUT * there.length)); left > 0; left -= 1) {
    if (median - (there[first] ?? 0) > (there[last] ?? 0) - median) first += 1;
    else last -= 1;
  }
  const [least, greatest] = [there[first] ?? 0, there[last] ?? 0];
  if (least === greatest) return isLog ? {} : steadyEnds(least, greatest);
  const room = PADDING * (greatest - least);
  const back = (value: number) => (isLog ? 10 ** value : value);
  return { min: back(least - room), max: back(greatest + room) };
}

/** How many values the axis leaves out. */
export function numOutside(lines: ChartLine[], { min = -Infinity, max = Infinity }: Ends): number {
  return lines.reduce((sum, line) => sum + line.raw.filter((value) => Number.isFinite(value) && (value < min || value > max)).length, 0);
}

/** What of the lines the axis can show: the stretch with its neighbours, and on a logarithmic axis what is positive. */
export function shownLines(lines: ChartLine[], { stretch, isLogX }: Pick<ChartLook, "stretch" | "isLogX">): ChartLine[] {
  if (!stretch && !isLogX) return lines;
  return lines.map((line) => {
    const near = stretch ? visible(line.x, stretch) : [...line.x.keys()];
    const kept = isLogX ? near.filter((at) => (line.x[at] ?? 0) > 0) : near;
    const pick = (list: number[]) => kept.map((at) => list[at] ?? NaN);
    const raw = pick(line.raw);
    const { spread } = line;
    return {
      ...line,
      x: pick(line.x),
      raw,
      shown: line.shown === line.raw ? raw : pick(line.shown),
      ...(spread && { spread: { low: pick(spread.low), high: pick(spread.high), texts: kept.map((at) => spread.texts[at] ?? "") } }),
    };
  });
}

export function chartOptions(all: ChartLine[], bands: Band[], look: ChartLook) {
  const lines = shownLines(all, look);
  const { stretch } = look;
  const marks = nonFiniteMarks(lines).filter((mark) => !stretch || (mark.x >= stretch.from && mark.x <= stretch.to));
  const ends = axisEnds(lines, look);
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 4, right: 14, top: 12, bottom: 2, outerBoundsMode: "same" as const, outerBoundsContain: "axisLabel" as const },
    tooltip: {
      trigger: "axis" as const,
      confine: true,
      axisPointer: { type: "line" as const },
      textStyle: { fontSize: 12 },
      valueFormatter: (value: unknown) => number(typeof value === "number" ? value : null),
    },
    xAxis: [
      {
        type: look.isTime ? ("time" as const) : look.isLogX ? ("log" as const) : ("value" as const),
        min: stretch ? stretch.from : ("dataMin" as const),
        max: stretch ? stretch.to : ("dataMax" as const),
        splitLine: { show: false },
        axisLine: { onZero: false },
        axisPointer: look.isTime ? {} : { label: { precision: 0 } },
        axisLabel: { fontSize: 11, hideOverlap: true, ...(look.isTime ? {} : { formatter: (value: number) => number(value) }) },
      },
    ],
    yAxis: [
      {
        type: look.isLog ? ("log" as const) : ("value" as const),
        scale: true,
        // The chart merges its options: ends that it was given once would stay.
        min: ends.min ?? null,
        max: ends.max ?? null,
        interval: ends.interval ?? null,
        axisLabel: { fontSize: 11, formatter: (value: number) => number(value), hideOverlap: true, ...labelsAtEnds(look.isClipped ? ends : {}) },
        splitLine: { lineStyle: { opacity: look.isDark ? 0.25 : 0.6 } },
        splitNumber: 4,
      },
      { type: "value" as const, min: 0, max: 1, show: false },
    ],
    series: [
      ...lines.flatMap((line) => (line.spread ? [spreadSeries(line, line.spread, look.isLog)] : [])),
      ...lines.flatMap((line) => lineSeries(line, look.isLog)),
      bandSeries(bands, look),
      markSeries(marks),
    ],
  };
}

/** Ends that were put where the values happen to lie are no round numbers. */
function labelsAtEnds({ min, interval }: Ends) {
  const isRound = min === undefined || interval !== undefined;
  return { showMinLabel: isRound ? null : false, showMaxLabel: isRound ? null : false };
}

/** The area between the lowest and the highest. */
function spreadSeries(line: ChartLine, { low, high }: Spread, isLog: boolean) {
  const rows = line.x.flatMap((x, at): [number, number, number][] => {
    const [bottom, top] = [low[at] ?? NaN, high[at] ?? NaN];
    return Number.isFinite(bottom) && Number.isFinite(top) && (!isLog || bottom > 0) ? [[x, bottom, top]] : [];
  });
  return {
    type: "custom" as const,
    name: `${line.name} (band)`,
    data: rows,
    encode: { x: 0, y: [1, 2] },
    silent: true,
    clip: true,
    tooltip: { show: false },
    z: 1,
    renderItem: (params: CustomSeriesRenderItemParams, api: CustomSeriesRenderItemAPI) => {
      if (params.dataIndex !== 0) return undefined;
      const edge = [...rows.map(([x, , top]) => [x, top]), ...[...rows].reverse().map(([x, bottom]) => [x, bottom])];
      return { type: "polygon" as const, shape: { points: edge.map((place) => api.coord(place)) }, style: { fill: line.colour, opacity: line.isOld ? 0.06 : 0.18 } };
    },
  };
}

function lineSeries(line: ChartLine, isLog: boolean) {
  const isDrawn = (value: number | undefined) => value !== undefined && Number.isFinite(value) && (!isLog || value > 0);
  const drawn = (values: number[]) =>
    values.map((value, index) => {
      const point = [line.x[index] ?? 0, isDrawn(value) ? value : null];
      const isAlone = isDrawn(value) && !isDrawn(values[index - 1]) && !isDrawn(values[index + 1]);
      return isAlone ? { value: point, symbol: "circle", symbolSize: 5 } : point;
    });
  const look = { type: "line" as const, itemStyle: { color: line.colour }, connectNulls: false, symbol: "none" };
  const strong = {
    ...look,
    name: line.name,
    data: drawn(line.shown),
    ...(line.spread && { tooltip: { valueFormatter: (_value: unknown, index: number) => line.spread?.texts[index] ?? "" } }),
    lineStyle: { width: 1.6, color: line.colour, opacity: line.isOld ? 0.45 : 1 },
  };
  if (line.shown === line.raw) return [strong];
  const faint = {
    ...look,
    name: `${line.name} (raw)`,
    data: drawn(line.raw),
    silent: true,
    tooltip: { show: false },
    lineStyle: { width: 1, color: line.colour, opacity: line.isOld ? 0.12 : 0.25 },
  };
  return [faint, strong];
}

function bandSeries(bands: Band[], { isDark, isLogX, stretch }: ChartLook) {
  const colour = (index: number) => {
    if (index % 2 === 0) return "transparent";
    return isDark ? "rgba(255,255,255,0.07)" : "rgba(0,0,0,0.045)";
  };
  const [first, last] = [stretch?.from ?? -Infinity, stretch?.to ?? Infinity];
  const areas = bands.map((band, index) => ({ ...band, from: Math.max(band.from, first), to: Math.min(band.to, last), colour: colour(index) }));
  return {
    type: "line" as const,
    name: "bands",
    data: [],
    silent: true,
    tooltip: { show: false },
    markArea: {
      silent: true,
      label: { position: "insideTop" as const, fontSize: 10, color: isDark ? "#9aa4a8" : "#5c666b" },
      data: areas
        .filter((area) => area.from <= area.to && (!isLogX || area.from > 0))
        .map((area) => [{ name: area.name, xAxis: area.from, itemStyle: { color: area.colour } }, { xAxis: area.to }]),
    },
  };
}

function markSeries(marks: NonFiniteMark[]) {
  return {
    type: "scatter" as const,
    name: marks[0]?.line ?? "",
    yAxisIndex: 1,
    data: marks.map((mark) => ({
      value: [mark.x, mark.text === "+\u221e" ? 1 : 0],
      symbolRotate: mark.text === "NaN" ? 0 : mark.text === "+\u221e" ? 0 : 180,
      symbol: mark.text === "NaN" ? "diamond" : "triangle",
    })),
    symbolSize: 9,
    itemStyle: { color: MARK_COLOUR },
    tooltip: { valueFormatter: (_value: unknown, index: number) => marks[index]?.text ?? "" },
    z: 5,
  };
}
