import { LineChart, ScatterChart } from "echarts/charts";
import { DataZoomInsideComponent, GridComponent, MarkAreaComponent, TooltipComponent } from "echarts/components";
import { connect, init, use as register, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { useEffect, useRef } from "react";
import { number } from "../app/format";
import { useDark } from "../app/theme";

register([LineChart, ScatterChart, GridComponent, TooltipComponent, DataZoomInsideComponent, MarkAreaComponent, CanvasRenderer]);

export interface ChartLine {
  name: string;
  /** Step, or milliseconds since the epoch. */
  x: number[];
  raw: number[];
  /** What is drawn strong; the same array as `raw` when nothing is smoothed. */
  shown: number[];
  colour: string;
}

interface Props {
  lines: ChartLine[];
  isTime: boolean;
  isLog: boolean;
  /** Charts of one group share their cursor. */
  group: string;
  height?: number;
  testId: string;
}

/** One metric: the raw line faint behind the smoothed, what is not finite as marks on the axis. */
export function Chart({ lines, isTime, isLog, group, height = 190, testId }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const isDark = useDark();
  useEffect(() => {
    if (!box.current) return;
    const made = init(box.current, isDark ? "dark" : undefined, { renderer: "canvas" });
    made.group = group;
    connect(group);
    chart.current = made;
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, [group, isDark]);
  useEffect(() => {
    chart.current?.setOption(options(lines, isTime, isLog), { replaceMerge: ["series"] });
  }, [lines, isTime, isLog, isDark]);
  const numPoints = lines.reduce((sum, line) => sum + line.raw.length, 0);
  return <div ref={box} data-testid={testId} data-points={numPoints} role="img" aria-label={`${testId} ${numPoints}`} style={{ height }} />;
}

function options(lines: ChartLine[], isTime: boolean, isLog: boolean) {
  const drawn = (values: number[], x: number[]) =>
    values.map((value, index) => [x[index], Number.isFinite(value) && (!isLog || value > 0) ? value : null]);
  const series = lines.flatMap((line) => {
    const isSmoothed = line.shown !== line.raw;
    const strong = {
      type: "line" as const, name: line.name, data: drawn(line.shown, line.x), showSymbol: line.raw.length < 2,
      lineStyle: { width: 1.6, color: line.colour }, itemStyle: { color: line.colour }, animation: false, connectNulls: false,
    };
    const faint = {
      type: "line" as const, name: `${line.name} `, data: drawn(line.raw, line.x), showSymbol: false, silent: true, tooltip: { show: false },
      lineStyle: { width: 1, color: line.colour, opacity: 0.22 }, itemStyle: { color: line.colour }, animation: false,
    };
    return isSmoothed ? [faint, strong] : [strong];
  });
  const marks = lines.flatMap((line) =>
    line.raw.flatMap((value, index) => (Number.isFinite(value) ? [] : [{ value: [line.x[index] ?? 0, 0], name: String(value) }])),
  );
  return {
    backgroundColor: "transparent",
    grid: { left: 8, right: 12, top: 10, bottom: 6, containLabel: true },
    tooltip: {
      trigger: "axis", confine: true, axisPointer: { type: "line" }, textStyle: { fontSize: 12 },
      valueFormatter: (value: unknown) => number(typeof value === "number" ? value : null),
    },
    dataZoom: [{ type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl" as const }],
    xAxis: [
      { type: isTime ? ("time" as const) : ("value" as const), min: "dataMin" as const, max: "dataMax" as const, splitLine: { show: false }, axisLabel: { fontSize: 11, hideOverlap: true } },
    ],
    yAxis: [
      { type: isLog ? ("log" as const) : ("value" as const), scale: true, axisLabel: { fontSize: 11, formatter: (value: number) => number(value) }, splitLine: { lineStyle: { opacity: 0.35 } } },
      { type: "value" as const, min: 0, max: 1, show: false },
    ],
    series: [
      ...series,
      { type: "scatter" as const, name: "not finite", yAxisIndex: 1, data: marks, symbol: "triangle", symbolSize: 9, itemStyle: { color: "#D55E00" }, animation: false },
    ],
  };
}
