import { describe, expect, it } from "vitest";
import { axisEnds, chartOptions, nonFiniteMarks, type ChartLine } from "./chartOptions";

function chartLine(raw: number[], shown = raw): ChartLine {
  return { name: "loss", x: raw.map((_, at) => at + 1), raw, shown, colour: "#000", isOld: false };
}

const LOOK = { isTime: false, isLog: false, isDark: false };

describe("a chart", () => {
  it("marks what is not finite on the axis instead of dropping it", () => {
    const line = chartLine([1, NaN, Infinity, -Infinity, 2]);
    expect(nonFiniteMarks([line]).map((mark) => [mark.x, mark.text])).toEqual([[2, "NaN"], [3, "+\u221e"], [4, "\u2212\u221e"]]);
    const series = chartOptions([line], [], LOOK).series;
    const scatter = series.find((one) => one.type === "scatter");
    expect(scatter?.data).toHaveLength(3);
  });

  it("breaks the line there and draws a point that has no neighbours as a dot", () => {
    const series = chartOptions([chartLine([1, 2, NaN, 3, NaN])], [], LOOK).series;
    expect(series[0]?.data).toEqual([[1, 1], [2, 2], [3, null], { value: [4, 3], symbol: "circle", symbolSize: 5 }, [5, null]]);
  });

  it("draws the raw line faint behind the smoothed one", () => {
    const names = chartOptions([chartLine([1, 2], [1, 1.5])], [], LOOK).series.map((one) => one.name);
    expect(names.slice(0, 2)).toEqual(["loss (raw)", "loss"]);
  });

  it("leaves out of a logarithmic axis what has no logarithm", () => {
    const series = chartOptions([chartLine([0, 1, 2])], [], { ...LOOK, isLog: true }).series;
    expect(series[0]?.data).toEqual([[1, null], [2, 1], [3, 2]]);
  });

  it("does not blow rounding noise up to the height of the chart", () => {
    expect(axisEnds([chartLine([0.001, 0.001 + 1e-19])])).toEqual({ min: 0.0005, max: 0.0015, interval: 0.0005 });
    expect(axisEnds([chartLine([0, 0])])).toEqual({ min: -1, max: 1, interval: 1 });
    expect(axisEnds([chartLine([1, 2])])).toEqual({});
    expect(axisEnds([chartLine([NaN])])).toEqual({ min: 0, max: 1 });
  });

  it("shades every second attempt", () => {
    const bands = [{ name: "attempt 1", from: 1, to: 5 }, { name: "attempt 2", from: 5, to: 9 }];
    const series = chartOptions([chartLine([1, 2])], bands, LOOK).series;
    const areas = series.flatMap((one) => ("markArea" in one ? one.markArea.data : []));
    expect(areas.map((area) => (area[0] as { itemStyle: { color: string } }).itemStyle.color)).toEqual(["transparent", "rgba(0,0,0,0.045)"]);
  });
});
