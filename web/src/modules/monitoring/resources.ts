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

const GB = 1e-9;
const MB = 1e-6;

const CHARTS = [
  { key: "gpuBusy", unit: "%", scale: 1, pattern: /^gpu\d+\/utilization_percent$/ },
  { key: "gpuMemory", unit: "GB", scale: GB, pattern: /^gpu\d+\/(memory_(used|total)|job_memory)_bytes$/ },
  { key: "gpuHeat", unit: "°C", scale: 1, pattern: /^gpu\d+\/temperature_celsius$/ },
  { key: "gpuPower", unit: "W", scale: 1, pattern: /^gpu\d+\/power_watts$/ },
  { key: "cpu", unit: "%", scale: 1, pattern: /^(machine\/)?cpu_percent$/ },
  { key: "memory", unit: "GB", scale: GB, pattern: /^(memory_bytes|machine\/memory_(used|total)_bytes)$/ },
  { key: "disk", unit: "MB/s", scale: MB, pattern: /^(machine\/)?disk_(read|written)_bytes_per_second$/ },
  { key: "diskWait", unit: "%", scale: 1, pattern: /^(machine\/)?disk_wait_percent$/ },
  { key: "diskFree", unit: "GB", scale: GB, pattern: /^machine\/disk_free_bytes$/ },
  { key: "network", unit: "MB/s", scale: MB, pattern: /^machine\/network_((received|sent)_)?bytes_per_second$/ },
  { key: "processes", unit: "", scale: 1, pattern: /^num_(processes|threads)$/ },
  { key: "processCpu", unit: "%", scale: 1, pattern: /^process\/[^/]+\/cpu_percent$/ },
  { key: "processMemory", unit: "GB", scale: GB, pattern: /^process\/[^/]+\/memory_bytes$/ },
  { key: "processDisk", unit: "MB/s", scale: MB, pattern: /^process\/[^/]+\/disk_(read|written)_bytes_per_second$/ },
  { key: "processGpu", unit: "GB", scale: GB, pattern: /^process\/[^/]+\/gpu\d+_memory_bytes$/ },
] as const;

export interface ResourceChart {
  /** What the chart is about: a key of the texts without its prefix. */
  key: (typeof CHARTS)[number]["key"];
  unit: string;
  lines: ResourceLine[];
}

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

/** A line's name where its chart says the rest: `process/python.4242/cpu_percent` is "python 4242". */
export function shortName(name: string): string {
  const [, process, figure] = /^process\/(.+)\/([^/]+)$/.exec(name) ?? [];
  const rest = (figure ?? name).replace(/_bytes(_per_second)?$|_percent$|_celsius$|_watts$/, "");
  if (process === undefined) return rest;
  const what = { cpu: "", memory: "", disk_read: "read", disk_written: "written" }[rest] ?? rest.replace(/_memory$/, "");
  return `${process.replace(/\.(\d+)$/, " $1")} ${what}`.trim();
}

/** The highest finite value of a line. */
export function peak(line: ResourceLine): number | null {
  const finite = line.values.filter(Number.isFinite);
  return finite.length > 0 ? finite.reduce((a, b) => Math.max(a, b)) : null;
}
