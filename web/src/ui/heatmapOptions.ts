/** What ECharts is told to draw for a heatmap: axes and legend; the cells are one picture. Pure but for that picture. */
import type { CustomSeriesRenderItemParams } from "echarts";
import type { EChartsCoreOption } from "echarts/core";
import { number } from "../app/format";

/** From a value to its place on the colour scale and back. */
export interface ColourScale {
  forward: (value: number) => number;
  backward: (place: number) => number;
  /** Places of the ends. */
  min: number;
  max: number;
  isLog: boolean;
  /** Zero, or equality, is in the middle. */
  isDiverging: boolean;
  /** Values lie beyond the ends. */
  isClipped: boolean;
}

export interface Heat {
  rows: string[];
  columns: string[];
  /** One list for each row; null is left empty. */
  cells: (number | null)[][];
  scale: ColourScale;
  picked: Place | null;
}

export interface Place {
  row: number;
  column: number;
}

/** Viridis: even in lightness, readable without colour, the same for colour-blind eyes. */
const PERCEPTUAL = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
/** Blue and orange, with the page in the middle. */
const DIVERGING = {
  light: ["#08306b", "#2171b5", "#6baed6", "#c6dbef", "#f7f7f7", "#fdd0a2", "#fd8d3c", "#d94801", "#7f2704"],
  dark: ["#c6dbef", "#6baed6", "#3a82b8", "#21506f", "#23292c", "#7a4415", "#c96a1c", "#fd9d4e", "#fdd0a2"],
};
const PICKED = { light: "#d6006c", dark: "#ff6fb5" };
const LABEL_WIDTH = 190;
const LEGEND_WIDTH = 78;

export function heatmapOptions({ rows, columns, cells, scale, picked }: Heat, isDark: boolean): EChartsCoreOption {
  const colours = !scale.isDiverging ? PERCEPTUAL : isDark ? DIVERGING.dark : DIVERGING.light;
  const end = (place: number, sign: string) => `${scale.isClipped ? sign : ""}${number(scale.backward(place), 3)}`;
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 4, right: LEGEND_WIDTH, top: 6, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    xAxis: { type: "category", data: columns, axisLabel: { fontSize: 11, hideOverlap: true }, axisTick: { show: false }, splitLine: { show: false } },
    yAxis: {
      type: "category",
      data: rows,
      inverse: true,
      axisLabel: { fontSize: 11, hideOverlap: true, width: LABEL_WIDTH, overflow: "truncate" },
      axisTick: { show: false },
      splitLine: { show: false },
    },
    visualMap: {
      type: "continuous",
      min: scale.min,
      max: scale.max,
      seriesIndex: [],
      calculable: false,
      hoverLink: false,
      orient: "vertical",
      right: 0,
      top: "middle",
      itemWidth: 12,
      itemHeight: 110,
      text: [end(scale.max, "\u2265"), end(scale.min, "\u2264")],
      textStyle: { color: isDark ? "#c8d0d3" : "#434b4f", fontSize: 11 },
      inRange: { color: colours },
    },
    series: [
      {
        type: "custom",
        data: [[0, 0]],
        silent: true,
        renderItem: ({ coordSys }: CustomSeriesRenderItemParams) => {
          const box = coordSys as unknown as Box;
          const picture = { type: "image", style: { ...box, image: painted(cells, columns.length, scale, colours, box) } };
          const frame = picked && { type: "rect", shape: cellBox(picked, rows.length, columns.length, box), style: { fill: "none", stroke: isDark ? PICKED.dark : PICKED.light, lineWidth: 2 } };
          return { type: "group", children: frame ? [picture, frame] : [picture] };
        },
      },
    ],
  };
}

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Where a cell lies, and at least so large that it is seen. */
function cellBox({ row, column }: Place, numRows: number, numColumns: number, { x, y, width, height }: Box): Box {
  const [wide, high] = [width / numColumns, height / numRows];
  return { x: x + column * wide, y: y + row * high, width: Math.max(3, wide), height: Math.max(3, high) };
}

/** The cells at the size of the screen, with sharp edges: a hundred thousand shapes would take seconds. */
function painted(cells: Heat["cells"], numColumns: number, scale: ColourScale, colours: string[], { width, height }: Box): HTMLCanvasElement {
  const [small, large] = [document.createElement("canvas"), document.createElement("canvas")];
  [small.width, small.height] = [Math.max(1, numColumns), Math.max(1, cells.length)];
  [large.width, large.height] = [Math.max(1, width * devicePixelRatio), Math.max(1, height * devicePixelRatio)].map(Math.round) as [number, number];
  small.getContext("2d")?.putImageData(new ImageData(pixels(cells, numColumns, scale, colours), small.width, small.height), 0, 0);
  const pen = large.getContext("2d");
  if (pen) {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, large.width, large.height);
  }
  return large;
}

const SHADES = 256;

/** One pixel for each cell: red, green, blue, opacity. */
export function pixels(cells: Heat["cells"], numColumns: number, { forward, min, max }: ColourScale, colours: string[]): Uint8ClampedArray<ArrayBuffer> {
  const shades = Array.from({ length: SHADES }, (_, index) => shade(colours, index / (SHADES - 1)));
  const found = new Uint8ClampedArray(Math.max(1, numColumns) * Math.max(1, cells.length) * 4);
  cells.forEach((values, row) =>
    values.forEach((value, column) => {
      if (value === null) return;
      const share = (forward(value) - min) / (max - min);
      const [red, green, blue] = shades[Math.round(Math.min(1, Math.max(0, share)) * (SHADES - 1))] ?? [0, 0, 0];
      found.set([red, green, blue, 255], 4 * (row * numColumns + column));
    }),
  );
  return found;
}

/** The colour at a share of the way from the first to the last. */
function shade(colours: string[], share: number): [number, number, number] {
  const place = share * (colours.length - 1);
  const at = Math.min(colours.length - 2, Math.floor(place));
  const part = (colour: string | undefined, from: number) => parseInt((colour ?? "#000000").slice(from, from + 2), 16);
  const between = (from: number) => part(colours[at], from) + (part(colours[at + 1], from) - part(colours[at], from)) * (place - at);
  return [between(1), between(3), between(5)];
}
