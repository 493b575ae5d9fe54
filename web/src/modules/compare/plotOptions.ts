/** What ECharts is told to draw for runs as points and as lines over several axes. Pure. */
import type { EChartsCoreOption } from "echarts/core";
import { number } from "../../app/format";
import { runColour } from "../../ui/colours";
import type { Dimension, ParallelAxis } from "./logic";

export interface RunName {
  id: number;
  name: string;
}

const LABELS_UP_TO = 20;

export interface ScatterLook {
  isLogX: boolean;
  isLogY: boolean;
}

export interface Placed extends RunName {
  x: number;
  y: number;
}

/** The runs that have both values, on axes that can show them. */
export function placed(runs: RunName[], x: Dimension, y: Dimension, look: ScatterLook): Placed[] {
  const canShow = (value: number | undefined, isLog: boolean): value is number => value !== undefined && (!isLog || value > 0);
  return runs.flatMap(({ id, name }, index) => {
    const [left, right] = [x.values[index], y.values[index]];
    return canShow(left, look.isLogX) && canShow(right, look.isLogY) ? [{ id, name, x: left, y: right }] : [];
  });
}

/** Text of users is never read as HTML: the tooltip is drawn on the canvas. */
const TOOLTIP = { trigger: "item", renderMode: "richText", confine: true, textStyle: { fontSize: 12 } };

/** Braces would be read as a style of the canvas' rich text. */
const plain = (text: string) => text.replaceAll("{", "(").replaceAll("}", ")");

export function scatterOption(points: Placed[], x: Dimension, y: Dimension, look: ScatterLook): EChartsCoreOption {
  const axis = (dimension: Dimension, isLog: boolean, gap: number) => ({
    type: isLog ? "log" : "value",
    scale: true,
    name: dimension.label,
    nameLocation: "middle",
    nameGap: gap,
    axisLabel: { fontSize: 11, hideOverlap: true, formatter: (value: number) => number(value) },
    splitLine: { lineStyle: { opacity: 0.35 } },
  });
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 70, right: 30, top: 24, bottom: 48 },
    tooltip: { ...TOOLTIP, formatter: (hit: { dataIndex: number }) => pointText(points[hit.dataIndex], x, y) },
    xAxis: axis(x, look.isLogX, 28),
    yAxis: axis(y, look.isLogY, 54),
    series: [
      {
        type: "scatter",
        symbolSize: 13,
        data: points.map((point) => ({ name: point.name, value: [point.x, point.y], itemStyle: { color: runColour(point.id) }, label: { formatter: `#${point.id}` } })),
        label: { show: points.length <= LABELS_UP_TO, position: "top", fontSize: 11 },
        labelLayout: { hideOverlap: true },
      },
    ],
  };
}

export function pointText(point: Placed | undefined, x: Dimension, y: Dimension): string {
  if (!point) return "";
  return plain(`${point.name}\n${x.label}: ${number(point.x)}\n${y.label}: ${number(point.y)}`);
}

const AXIS_NAME_WIDTH = 150;

/** Lines stop where a run does not have a value. */
export function parallelOption(runs: RunName[], axes: ParallelAxis[]): EChartsCoreOption {
  return {
    backgroundColor: "transparent",
    animation: false,
    tooltip: { ...TOOLTIP, formatter: (hit: { dataIndex: number }) => runText(hit.dataIndex, runs, axes) },
    parallel: { left: 60, right: 90, top: 48, bottom: 28 },
    parallelAxis: axes.map((axis, dim) => ({
      dim,
      name: axis.name,
      type: axis.isLog ? "log" : "value",
      scale: true,
      nameLocation: "end",
      nameTruncate: { maxWidth: AXIS_NAME_WIDTH },
      nameTextStyle: { fontSize: 11.5 },
      axisLabel: { fontSize: 11, formatter: (value: number) => number(value) },
      ...(axis.isLog ? {} : constantEnds(axis.dimension.values)),
    })),
    series: [
      {
        type: "parallel",
        lineStyle: { width: 2.2, opacity: 0.85 },
        inactiveOpacity: 0.2,
        data: runs.map((run, index) => ({
          name: run.name,
          value: axes.map((axis) => axis.dimension.values[index] ?? "-"),
          lineStyle: { color: runColour(run.id) },
        })),
      },
    ],
  };
}

function runText(index: number, runs: RunName[], axes: ParallelAxis[]): string {
  const values = axes.map((axis) => `${axis.name}: ${number(axis.dimension.values[index])}`);
  return plain([runs[index]?.name ?? "", ...values].join("\n"));
}

/** An axis on which all runs agree gets ends around the value. */
function constantEnds(values: (number | undefined)[]): { min?: number; max?: number } {
  const known = new Set(values.filter((value) => value !== undefined));
  const [only] = known;
  if (known.size !== 1 || only === undefined) return {};
  const half = only === 0 ? 1 : Math.abs(only) / 2;
  return { min: only - half, max: only + half };
}
