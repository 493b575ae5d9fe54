import { CustomChart, LineChart, ScatterChart } from "echarts/charts";
import { GridComponent, MarkAreaComponent, TooltipComponent } from "echarts/components";
import { init, use as register, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { useCallback, useEffect, useRef, type KeyboardEvent } from "react";
import { useDark } from "../app/theme";
import { chartOptions, nonFiniteMarks, type Band, type ChartLine } from "./chartOptions";
import { follow } from "./cursor";
import { drawing } from "./drawing";
import { extent, type Stretch } from "./stretch";
import { useGroupZoom } from "./useGroupZoom";
import { useInView } from "./useInView";
import { listen, pressKey, type Zoomed } from "./zooming";

register([LineChart, ScatterChart, CustomChart, GridComponent, TooltipComponent, MarkAreaComponent, CanvasRenderer]);

const KEYS = "+ - 0 Shift+ArrowLeft Shift+ArrowRight";

interface Props {
  lines: ChartLine[];
  bands: Band[];
  isTime: boolean;
  isLog: boolean;
  isLogX?: boolean;
  isClipped?: boolean;
  /** What is shown of the horizontal axis, where the page keeps it; else the charts of the group share one. */
  stretch?: Stretch | null;
  zoom?: (stretch: Stretch | null) => void;
  /** Charts of one group share their cursor. */
  group: string;
  height: number;
  testId: string;
  label: string;
}

/**
 * One metric: the raw line faint behind the smoothed, what is not finite as marks on the axis. Dragging zooms in, a
 * double click shows all again; so do the keys + - 0. Only charts in view are drawn, so that a page of many stays quick.
 */
export function Chart({ lines, bands, isTime, isLog, isLogX = false, isClipped = false, stretch, zoom, group, height, testId, label }: Props) {
  const box = useRef<HTMLDivElement>(null);
  // The drawing empties its element; the cursor and the shade of a drag lie beside it.
  const canvas = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const [view, isInView] = useInView();
  const [groupStretch, groupZoom] = useGroupZoom(group);
  const shown = zoom ? (stretch ?? null) : groupStretch;
  const isDark = useDark();
  const zoomed = useRef<() => Zoomed>(null);
  const newest = useRef(lines);
  // The address follows later: of two quick presses of a key the second goes on from the first.
  const wished = useRef(shown);
  useEffect(() => {
    wished.current = shown;
  }, [shown]);
  useEffect(() => {
    newest.current = lines;
    const wish = (wanted: Stretch | null) => {
      wished.current = wanted;
      (zoom ?? groupZoom)(wanted);
    };
    zoomed.current = () => ({ whole: extent(lines.map((line) => line.x), isLogX), stretch: wished.current, isLogX, zoom: wish });
  });
  useEffect(() => {
    const element = canvas.current;
    if (!element || !isInView) return;
    drawing.later(element, () => {
      chart.current ??= init(element, isDark ? "dark" : undefined, { renderer: "canvas" });
      chart.current.setOption(chartOptions(lines, bands, { isTime, isLog, isDark, isLogX, isClipped, stretch: shown }), { replaceMerge: ["series"] });
    });
  }, [lines, bands, isTime, isLog, isDark, isLogX, isClipped, shown, isInView]);
  useEffect(() => {
    const [element, drawn] = [box.current, canvas.current];
    if (!element || !drawn) return;
    const sizes = new ResizeObserver(() => chart.current?.resize());
    const stop = listen(() => chart.current, element, () => zoomed.current?.() ?? null);
    const leave = follow(group, element, () => ({ chart: chart.current, lines: newest.current }));
    sizes.observe(element);
    return () => {
      drawing.forget(drawn);
      sizes.disconnect();
      stop();
      leave();
      chart.current?.dispose();
      chart.current = null;
    };
  }, [group, isDark]);
  const place = useCallback(
    (element: HTMLDivElement | null) => {
      box.current = element;
      view(element);
    },
    [view],
  );
  const press = (event: KeyboardEvent) => {
    const now = zoomed.current?.();
    if (event.ctrlKey || event.metaKey || event.altKey || !now || !pressKey(event.key, event.shiftKey, now)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  const numPoints = lines.reduce((sum, line) => sum + line.raw.length, 0);
  return (
    <div
      ref={place}
      className="chart"
      data-testid={testId}
      data-points={numPoints}
      data-marks={nonFiniteMarks(lines).length}
      role="img"
      aria-label={label}
      aria-keyshortcuts={KEYS}
      tabIndex={0}
      onKeyDown={press}
      style={{ height }}
    >
      <div ref={canvas} className="chart-canvas" />
    </div>
  );
}
