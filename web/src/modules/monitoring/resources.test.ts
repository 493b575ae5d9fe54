import { describe, expect, it } from "vitest";
import type { Series } from "../../api/client";
import { peak, resourceCharts, shortName } from "./resources";

const series = (name: string, values: (number | "NaN")[], attempt = 1): Series => ({
  name,
  attempt,
  writer: "resources",
  steps: values.map((_, index) => index),
  times: values.map((_, index) => 100 + index),
  values,
  num_points: values.length,
});

describe("what a run used", () => {
  it("is drawn by kind in readable units, accelerators first", () => {
    const charts = resourceCharts([
      series("memory_bytes", [1e9, 2e9]),
      series("machine/memory_total_bytes", [8e9, 8e9]),
      series("gpu0/memory_used_bytes", [3e9, 4e9]),
      series("gpu11/utilization_percent", [50, 60]),
      series("somebody/else", [1, 2]),
    ]);
    expect(charts.map((chart) => [chart.key, chart.unit, chart.lines.length])).toEqual([
      ["gpuBusy", "%", 1],
      ["gpuMemory", "GB", 1],
      ["memory", "GB", 2],
    ]);
    expect(charts[2]?.lines[0]).toMatchObject({ times: [100_000, 101_000], values: [1, 2] });
  });

  it("is drawn for each process too, by a name that people can read", () => {
    const charts = resourceCharts([
      series("process/python.42/cpu_percent", [90, 95]),
      series("process/pt_main_thread.7/cpu_percent", [1, 2]),
      series("process/python.42/memory_bytes", [1e9, 2e9]),
      series("machine/network_bytes_per_second", [1e6, 2e6]),
      series("machine/network_sent_bytes_per_second", [1e6, 2e6]),
    ]);
    expect(charts.map((chart) => [chart.key, chart.lines.length])).toEqual([["network", 2], ["processCpu", 2], ["processMemory", 1]]);
    expect(["cpu_percent", "memory_bytes", "disk_read_bytes_per_second", "gpu0_memory_bytes"].map((figure) => shortName(`process/a.b.42/${figure}`))).toEqual([
      "a.b 42",
      "a.b 42",
      "a.b 42 read",
      "a.b 42 gpu0",
    ]);
    expect(shortName("machine/memory_total_bytes")).toBe("machine/memory_total");
  });

  it("has its peak among the finite values", () => {
    const [chart] = resourceCharts([series("cpu_percent", [5, "NaN", 190, 20])]);
    expect(chart?.lines.map(peak)).toEqual([190]);
    expect(peak({ name: "cpu_percent", attempt: 1, times: [], values: [NaN] })).toBeNull();
  });
});
