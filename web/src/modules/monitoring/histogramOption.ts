/** What ECharts is told to draw for a histogram by powers of two. Pure. */
import type { EChartsCoreOption } from "echarts/core";
import { number, whole } from "../../app/format";
import type { Bar } from "./heat";

const COLOURS = { below: "#0072B2", above: "#E69F00", nothing: "#7F7F7F" };

/** @param nothing what the values are called that are too small for a power of two */
export function histogramOption(bars: Bar[], nothing: string): EChartsCoreOption {
  const edges = (bar: Bar) => {
    if (bar.exponent === null) return nothing;
    const [low, high] = [2 ** bar.exponent, 2 ** (bar.exponent + 1)];
    return bar.sign > 0 ? `${number(low, 3)} … ${number(high, 3)}` : `\u2212${number(high, 3)} … \u2212${number(low, 3)}`;
  };
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 4, right: 8, top: 12, bottom: 2, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, renderMode: "richText", confine: true, textStyle: { fontSize: 12 } },
    xAxis: { type: "category", data: bars.map(edges), axisTick: { show: false }, axisLabel: { fontSize: 11, hideOverlap: true, formatter: (_: string, index: number) => label(bars[index], nothing) } },
    yAxis: { type: "log", min: 0.5, axisLabel: { fontSize: 11, hideOverlap: true, showMinLabel: false, formatter: (value: number) => number(value, 3) }, splitLine: { lineStyle: { opacity: 0.25 } } },
    series: [
      {
        type: "bar",
        name: "",
        barCategoryGap: "8%",
        tooltip: { valueFormatter: (value: unknown) => whole(Number(value ?? 0)) },
        data: bars.map((bar) => ({ value: bar.count || null, itemStyle: { color: bar.exponent === null ? COLOURS.nothing : bar.sign < 0 ? COLOURS.below : COLOURS.above } })),
      },
    ],
  };
}

function label(bar: Bar | undefined, nothing: string): string {
  if (!bar || bar.exponent === null) return bar ? nothing : "";
  return `${bar.sign < 0 ? "\u2212" : ""}2^${bar.exponent}`;
}
