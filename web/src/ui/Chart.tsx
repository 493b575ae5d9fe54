import { LineChart, ScatterChart } from "echarts/charts";
import { DataZoomComponent, GridComponent, MarkAreaComponent, ToolboxComponent, TooltipComponent } from "echarts/components";
import { connect, init, use as register, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { useEffect, useRef } from "react";
import { useDark } from "../app/theme";
import { chartOptions, nonFiniteMarks, type Band, type ChartLine } from "./chartOptions";

register([LineChart, ScatterChart, GridComponent, TooltipComponent, DataZoomComponent, ToolboxComponent, MarkAreaComponent, CanvasRenderer]);

interface Props {
  lines: ChartLine[];
  bands: Band[];
  isTime: boolean;
  isLog: boolean;
  /** Charts of one group share their cursor and their zoom. */
  group: string;
  height: number;
  testId: string;
  label: string;
}

/**
 * One metric: the raw line faint behind the smoothed, what is not finite as marks on the axis. Dragging zooms in, a
 * double click shows all again. Only charts in view are drawn, so that a page of many stays quick.
 */
export function Chart({ lines, bands, isTime, isLog, group, height, testId, label }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const draw = useRef<() => void>(() => undefined);
  const isInView = useRef(false);
  const isDark = useDark();
  useEffect(() => {
    draw.current = () => {
      if (!box.current || !isInView.current) return;
      chart.current ??= made(box.current, group, isDark);
      chart.current.setOption(chartOptions(lines, bands, { isTime, isLog, isDark }), { replaceMerge: ["series"], lazyUpdate: true });
    };
    draw.current();
  }, [lines, bands, isTime, isLog, isDark, group]);
  useEffect(() => {
    if (!box.current) return;
    const sizes = new ResizeObserver(() => chart.current?.resize());
    const views = new IntersectionObserver(
      (entries) => {
        isInView.current = entries.at(-1)?.isIntersecting === true;
        draw.current();
      },
      { rootMargin: "300px" },
    );
    sizes.observe(box.current);
    views.observe(box.current);
    return () => {
      sizes.disconnect();
      views.disconnect();
      chart.current?.dispose();
      chart.current = null;
    };
  }, [group, isDark]);
  const numPoints = lines.reduce((sum, line) => sum + line.raw.length, 0);
  return (
    <div
      ref={box}
      data-testid={testId}
      data-points={numPoints}
      data-marks={nonFiniteMarks(lines).length}
      role="img"
      aria-label={label}
      style={{ height }}
    />
  );
}

function made(box: HTMLDivElement, group: string, isDark: boolean): EChartsType {
  const chart = init(box, isDark ? "dark" : undefined, { renderer: "canvas" });
  chart.group = group;
  connect(group);
  const zoomByDragging = () =>
    chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
  const isFirst = { current: true };
  chart.on("rendered", () => {
    if (isFirst.current) zoomByDragging();
    isFirst.current = false;
  });
  chart.getZr().on("dblclick", () => chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 }));
  return chart;
}
