/** How the charts of a page are drawn, as the address tells it. Pure. */
import { fromText, type Stretch } from "../../ui/stretch";
import { AXES, type Axis } from "./axis";
import type { Family } from "./series";

export interface ChartView {
  /** Regular expression over the names of metrics. */
  filter: string;
  /** 0 to 0.99. */
  smoothing: number;
  axis: Axis;
  isLogX: boolean;
  isLogY: boolean;
  /** The value axis leaves the extreme hundredth out. */
  isClipped: boolean;
  closed: readonly string[];
  stretch: Stretch | null;
  /** The metric that fills the screen. */
  full: string | null;
}

export const MOST_SMOOTHING = 0.99;
const CLOSED_AT_FIRST = "native";
const NONE = "none";

/** @param axes what the page offers; the first stands in for what it does not */
export function viewOf(address: URLSearchParams, axes: readonly Axis[] = AXES): ChartView {
  const smoothing = Number(address.get("smooth") ?? "0");
  const axis = axes.find((one) => one === address.get("x")) ?? axes[0] ?? "step";
  return {
    filter: address.get("metric") ?? "",
    smoothing: Number.isFinite(smoothing) ? Math.min(MOST_SMOOTHING, Math.max(0, smoothing)) : 0,
    axis,
    isLogX: address.get("logx") === "1" && canBeLog(axis),
    isLogY: address.get("log") === "1",
    isClipped: address.get("clip") === "1",
    closed: (address.get("closed") ?? CLOSED_AT_FIRST).split(","),
    stretch: fromText(address.get("zoom")),
    full: address.get("chart"),
  };
}

/** A moment has no logarithm that means something. */
export function canBeLog(axis: Axis): boolean {
  return axis !== "time";
}

/** The address's text after a section was opened or closed. */
export function toggled(closed: readonly string[], name: Family): string {
  const next = closed.includes(name) ? closed.filter((other) => other !== name) : [...closed, name];
  return next.filter((other) => other !== NONE && other !== "").join(",") || NONE;
}

/** The metric before or after one, round the ends. */
export function neighbour(metrics: readonly string[], metric: string, by: 1 | -1): string {
  const at = metrics.indexOf(metric);
  return metrics[(at + by + metrics.length) % metrics.length] ?? metric;
}

