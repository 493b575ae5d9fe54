import { CustomChart } from "echarts/charts";
import { GridComponent, VisualMapComponent } from "echarts/components";
import { init, use as register, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { useEffect, useRef, useState, type KeyboardEvent, type MouseEvent } from "react";
import { useDark } from "../app/theme";
import { heatmapOptions, type ColourScale, type Heat, type Place } from "./heatmapOptions";
import type { Stretch } from "./stretch";
import { listen, pressKey, type Drawn, type Zoomed } from "./zooming";

register([CustomChart, GridComponent, VisualMapComponent, CanvasRenderer]);

const KEYS = "ArrowLeft ArrowRight ArrowUp ArrowDown + - 0";
const GRID = { gridIndex: 0 };
const AXIS = { xAxisIndex: 0, yAxisIndex: 0 };
/** A press and a release further apart are a drag. */
const STILL = 5;

interface Props extends Omit<Heat, "scale"> {
  scale: ColourScale;
  height: number;
  testId: string;
  label: string;
  /** What is said of the cell under the pointer, line by line. */
  tell: (place: Place) => string[];
  pick: (place: Place) => void;
  /** First and last step of each column, all that there is, and what of it is shown. */
  steps: Stretch[];
  whole: Stretch;
  stretch: Stretch | null;
  zoom: (stretch: Stretch | null) => void;
}

/** Rows by steps in colours. Dragging zooms in, a double click shows all, a click or the arrow keys pick a cell. */
export function Heatmap({ rows, columns, cells, scale, picked, height, testId, label, tell, pick, steps, whole, stretch, zoom }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const isDark = useDark();
  const [pointed, setPointed] = useState<{ place: Place; x: number; y: number } | null>(null);
  const pressed = useRef<{ x: number; y: number } | null>(null);
  const now = useRef<{ zoomed: Zoomed; steps: Stretch[] }>(null);
  useEffect(() => {
    now.current = { zoomed: { whole, stretch, isLogX: false, zoom }, steps };
  });
  useEffect(() => {
    const [element, outer] = [canvas.current, box.current];
    if (!element || !outer) return;
    const made = init(element, isDark ? "dark" : undefined, { renderer: "canvas" });
    chart.current = made;
    const sizes = new ResizeObserver(() => made.resize());
    sizes.observe(outer);
    const drawn: Drawn = {
      containPixel: (finder, pixel) => made.containPixel(finder, pixel),
      convertFromPixel: (finder, pixel) => stepAt(now.current?.steps ?? [], Number(made.convertFromPixel(finder, pixel))),
    };
    const stop = listen(() => drawn, outer, () => now.current?.zoomed ?? null);
    return () => {
      stop();
      sizes.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, [isDark]);
  useEffect(() => {
    chart.current?.setOption(heatmapOptions({ rows, columns, cells, scale, picked }, isDark), { notMerge: true });
  }, [rows, columns, cells, scale, picked, isDark]);
  const placeOf = (event: MouseEvent): Place | null => {
    const { left, top } = event.currentTarget.getBoundingClientRect();
    const pixel = [event.clientX - left, event.clientY - top];
    if (!chart.current?.containPixel(GRID, pixel)) return null;
    const [column, row] = chart.current.convertFromPixel(AXIS, pixel) as [number, number];
    return cells[row] && column >= 0 && column < columns.length ? { row, column } : null;
  };
  const point = (event: MouseEvent) => {
    const place = placeOf(event);
    const { left, top } = event.currentTarget.getBoundingClientRect();
    setPointed(place && { place, x: event.clientX - left, y: event.clientY - top });
  };
  const release = (event: MouseEvent) => {
    const start = pressed.current;
    const place = placeOf(event);
    if (place && start && Math.abs(event.clientX - start.x) < STILL && Math.abs(event.clientY - start.y) < STILL) pick(place);
  };
  const press = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = neighbour(picked, event.key, rows.length, columns.length);
    if (next && !event.shiftKey) pick(next);
    else if (!now.current || !pressKey(event.key, event.shiftKey, now.current.zoomed)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      ref={box}
      className="chart heatmap"
      data-testid={testId}
      data-rows={rows.length}
      data-columns={columns.length}
      data-scale={scale.isDiverging ? "diverging" : scale.isLog ? "log" : "linear"}
      role="img"
      aria-label={label}
      aria-keyshortcuts={KEYS}
      tabIndex={0}
      style={{ height }}
      onKeyDown={press}
      onMouseMove={point}
      onMouseLeave={() => setPointed(null)}
      onMouseDown={(event) => {
        pressed.current = { x: event.clientX, y: event.clientY };
      }}
      onMouseUp={release}
    >
      <div ref={canvas} className="chart-canvas" />
      {pointed && (
        <div className="heatmap-tip" role="status" data-side={pointed.x > (box.current?.clientWidth ?? 0) / 2 ? "left" : "right"} style={{ left: pointed.x, top: pointed.y }}>
          {tell(pointed.place).map((line, index) => <div key={index}>{line}</div>)}
        </div>
      )}
    </div>
  );
}

/** The step in the middle of a column; columns are drawn with one width, however many steps they stand for. */
function stepAt(steps: Stretch[], column: number): number {
  const at = steps[Math.min(steps.length - 1, Math.max(0, column))];
  return at ? (at.from + at.to) / 2 : NaN;
}

const MOVES: Record<string, Place> = {
  ArrowLeft: { row: 0, column: -1 },
  ArrowRight: { row: 0, column: 1 },
  ArrowUp: { row: -1, column: 0 },
  ArrowDown: { row: 1, column: 0 },
};

/** The cell beside one; the first where none is picked. */
function neighbour(picked: Place | null, key: string, numRows: number, numColumns: number): Place | null {
  const move = MOVES[key];
  if (!move || numRows === 0 || numColumns === 0) return null;
  if (!picked) return { row: 0, column: numColumns - 1 };
  const inside = (at: number, num: number) => Math.min(num - 1, Math.max(0, at));
  return { row: inside(picked.row + move.row, numRows), column: inside(picked.column + move.column, numColumns) };
}
