import { describe, expect, it } from "vitest";
import { axisEnds, chartOptions, nonFiniteMarks, numOutside, shownLines, type ChartLine } from "./chartOptions";

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

  it("has an axis of its own for values that lie far out, when told to", () => {
    const values = Array.from({ length: 200 }, (_, at) => at % 10);
    values[50] = 1e6;
    values[60] = -1e6;
    const ends = axisEnds([chartLine(values)], { isClipped: true });
    expect(ends.min).toBeCloseTo(-0.45);
    expect(ends.max).toBeCloseTo(9.45);
    expect(numOutside([chartLine(values)], ends)).toBe(2);
    expect(axisEnds([chartLine(values)])).toEqual({});
    expect(numOutside([chartLine(values)], {})).toBe(0);
  });

  it("measures how far out a value lies by its logarithm where the axis is logarithmic", () => {
    const values = [...Array.from({ length: 98 }, (_, at) => 10 + at / 98), 1e-9, 1000];
    const ends = axisEnds([chartLine(values)], { isClipped: true, isLog: true });
    expect(ends.min).toBeGreaterThan(1);
    expect(ends.max).toBeGreaterThan(1000);
  });

  it("leaves nothing out of the axis where there is little or all is the same", () => {
    expect(axisEnds([chartLine([1, 2, 3, 100])], { isClipped: true })).toEqual({});
    expect(axisEnds([chartLine([2, 2, 2, 2, 2, 2])], { isClipped: true })).toEqual({ min: 1, max: 3, interval: 1 });
  });

  it("takes back the ends that it set", () => {
    const yAxis = chartOptions([chartLine([1, 2])], [], LOOK).yAxis;
    expect(yAxis[0]).toMatchObject({ min: null, max: null, interval: null });
  });

  it("draws of a stretch its points and their neighbours, and marks and bands inside only", () => {
    const line = chartLine([NaN, 2, 3, 4, 5, NaN]);
    const stretch = { from: 3, to: 4 };
    const { series, xAxis } = chartOptions([line], [{ name: "a", from: 1, to: 2 }, { name: "b", from: 2, to: 6 }], { ...LOOK, stretch });
    expect(xAxis[0]).toMatchObject({ min: 3, max: 4 });
    expect(series[0]?.data).toEqual([[2, 2], [3, 3], [4, 4], [5, 5]]);
    expect(series.find((one) => one.type === "scatter")?.data).toEqual([]);
    const areas = series.flatMap((one) => ("markArea" in one ? one.markArea.data : []));
    expect(areas.map((area) => area.map((side) => side.xAxis))).toEqual([[3, 4]]);
  });

  it("leaves out of a logarithmic horizontal axis what is not positive", () => {
    const line = { ...chartLine([7, 8, 9]), x: [0, 1, 10] };
    const [shown] = shownLines([line], { isLogX: true });
    expect(shown).toMatchObject({ x: [1, 10], raw: [8, 9] });
    expect(shown?.shown).toBe(shown?.raw);
    expect(chartOptions([line], [], { ...LOOK, isLogX: true }).xAxis[0]?.type).toBe("log");
  });

  it("draws the band of a mean behind it and tells of it in words", () => {
    const spread = { low: [0, NaN, 1], high: [2, NaN, 3], texts: ["a", "b", "c"] };
    const line: ChartLine = { ...chartLine([1, 1.5, 2]), spread, lost: [{ x: 2, value: Infinity }] };
    const series = chartOptions([line], [], LOOK).series;
    expect(series.map((one) => one.type)).toEqual(["custom", "line", "line", "scatter"]);
    expect(series[0]?.data).toEqual([[1, 0, 2], [3, 1, 3]]);
    const tooltip = series[1] && "tooltip" in series[1] ? series[1].tooltip : undefined;
    expect(tooltip && "valueFormatter" in tooltip ? tooltip.valueFormatter?.(2, 2) : "").toBe("c");
    expect(nonFiniteMarks([line])).toEqual([{ x: 2, text: "+\u221e", line: "loss" }]);
  });
});
