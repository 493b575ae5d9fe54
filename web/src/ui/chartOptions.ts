/** What ECharts is told to draw for one metric. Pure. */
import { number } from "../app/format";

export interface ChartLine {
  name: string;
  /** Step, or milliseconds since the epoch. */
  x: number[];
  raw: number[];
  /** What is drawn strong; the same array as `raw` when nothing is smoothed. */
  shown: number[];
  colour: string;
  /** Drawn paler: an attempt that a newer one went on from. */
  isOld: boolean;
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
}

export interface NonFiniteMark {
  x: number;
  text: "NaN" | "+\u221e" | "\u2212\u221e";
  line: string;
}

const MARK_COLOUR = "#D55E00";

/** The points that no line can go through, in the order of the lines. */
export function nonFiniteMarks(lines: ChartLine[]): NonFiniteMark[] {
  return lines.flatMap((line) =>
    line.raw.flatMap((value, index): NonFiniteMark[] => {
      if (Number.isFinite(value)) return [];
      const text = Number.isNaN(value) ? "NaN" : value > 0 ? "+\u221e" : "\u2212\u221e";
      return [{ x: line.x[index] ?? 0, text, line: line.name }];
    }),
  );
}

/** Ends for the value axis where the spread is rounding noise, which would otherwise fill the chart. */
export function axisEnds(lines: ChartLine[]): { min?: number; max?: number; interval?: number } {
  let min = Infinity;
  let max = -Infinity;
  for (const line of lines) {
    for (const value of line.raw) {
      if (!Number.isFinite(value)) continue;
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
  }
  if (min > max) return { min: 0, max: 1 };
  const size = Math.max(Math.abs(min), Math.abs(max));
  if (max - min > 1e-6 * size) return {};
  if (size === 0) return { min: -1, max: 1, interval: 1 };
  return { min: min - size / 2, max: max + size / 2, interval: size / 2 };
}

export function chartOptions(lines: ChartLine[], bands: Band[], look: ChartLook) {
  const marks = nonFiniteMarks(lines);
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
    dataZoom: [{ type: "inside" as const, filterMode: "filter" as const, zoomOnMouseWheel: "ctrl" as const, moveOnMouseMove: false }],
    toolbox: { show: true, top: -100, feature: { dataZoom: { yAxisIndex: "none" as const, filterMode: "filter" as const } } },
    xAxis: [
      {
        type: look.isTime ? ("time" as const) : ("value" as const),
        min: "dataMin" as const,
        max: "dataMax" as const,
        splitLine: { show: false },
        axisPointer: look.isTime ? {} : { label: { precision: 0 } },
        axisLabel: { fontSize: 11, hideOverlap: true },
      },
    ],
    yAxis: [
      {
        type: look.isLog ? ("log" as const) : ("value" as const),
        scale: true,
        ...(look.isLog ? {} : axisEnds(lines)),
        axisLabel: { fontSize: 11, formatter: (value: number) => number(value), hideOverlap: true },
        splitLine: { lineStyle: { opacity: look.isDark ? 0.25 : 0.6 } },
        splitNumber: 4,
      },
      { type: "value" as const, min: 0, max: 1, show: false },
    ],
    series: [...lines.flatMap((line) => lineSeries(line, look.isLog)), bandSeries(bands, look.isDark), markSeries(marks)],
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

function bandSeries(bands: Band[], isDark: boolean) {
  const colour = (index: number) => {
    if (index % 2 === 0) return "transparent";
    return isDark ? "rgba(255,255,255,0.07)" : "rgba(0,0,0,0.045)";
  };
  return {
    type: "line" as const,
    name: "bands",
    data: [],
    silent: true,
    tooltip: { show: false },
    markArea: {
      silent: true,
      label: { position: "insideTop" as const, fontSize: 10, color: isDark ? "#9aa4a8" : "#5c666b" },
      data: bands.map((band, index) => [
        { name: band.name, xAxis: band.from, itemStyle: { color: colour(index) } },
        { xAxis: band.to },
      ]),
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
