/** What a run used, as charts: which figures belong together, in which unit. Pure. */
import type { Series } from "../../api/client";

export interface ResourceLine {
  name: string;
  attempt: number;
  /** Milliseconds since the epoch. */
  times: number[];
  /** In the chart's unit. */
  values: number[];
}

export interface ResourceChart {
  /** What the chart is about: a key of the texts without its prefix. */
  key: "cpu" | "memory" | "disk" | "diskFree" | "network" | "processes" | "gpuBusy" | "gpuMemory" | "gpuHeat" | "gpuPower";
  unit: string;
  lines: ResourceLine[];
}

const GB = 1e-9;
const MB = 1e-6;

const CHARTS: { key: ResourceChart["key"]; unit: string; scale: number; pattern: RegExp }[] = [
  { key: "gpuBusy", unit: "%", scale: 1, pattern: /^gpu\d+\/utilization_percent$/ },
  { key: "gpuMemory", unit: "GB", scale: GB, pattern: /^gpu\d+\/memory_(used|total)_bytes$/ },
  { key: "gpuHeat", unit: "°C", scale: 1, pattern: /^gpu\d+\/temperature_celsius$/ },
  { key: "gpuPower", unit: "W", scale: 1, pattern: /^gpu\d+\/power_watts$/ },
  { key: "cpu", unit: "%", scale: 1, pattern: /^(machine\/)?cpu_percent$/ },
  { key: "memory", unit: "GB", scale: GB, pattern: /^(memory_bytes|machine\/memory_(used|total)_bytes)$/ },
  { key: "disk", unit: "MB/s", scale: MB, pattern: /^disk_(read|written)_bytes_per_second$/ },
  { key: "diskFree", unit: "GB", scale: GB, pattern: /^machine\/disk_free_bytes$/ },
  { key: "network", unit: "MB/s", scale: MB, pattern: /^machine\/network_bytes_per_second$/ },
  { key: "processes", unit: "", scale: 1, pattern: /^num_(processes|threads)$/ },
];

/** Charts that have lines, GPUs first. */
export function resourceCharts(series: Series[]): ResourceChart[] {
  return CHARTS.map(({ key, unit, scale, pattern }) => ({
    key,
    unit,
    lines: series
      .filter((one) => pattern.test(one.name))
      .map((one) => ({
        name: one.name,
        attempt: one.attempt,
        times: one.times.map((time) => 1000 * time),
        values: one.values.map((value) => (typeof value === "number" ? scale * value : Number(value))),
      })),
  })).filter((chart) => chart.lines.length > 0);
}

/** The highest finite value of a line. */
export function peak(line: ResourceLine): number | null {
  const finite = line.values.filter(Number.isFinite);
  return finite.length > 0 ? finite.reduce((a, b) => Math.max(a, b)) : null;
}
