/** One cursor for the charts of a group: where the pointer is in one, a line stands in the others. */
import type { EChartsType } from "echarts/core";
import { number } from "../app/format";
import type { ChartLine } from "./chartOptions";

const AXIS = { xAxisIndex: 0 };
const GRID = { gridIndex: 0 };

export interface Followed {
  chart: EChartsType | null;
  lines: ChartLine[];
}

type Move = (x: number | null) => void;

const groups = new Map<string, Set<Move>>();

/** The value of the point that is nearest to a place on the axis. */
export function valueNear({ x, shown }: Pick<ChartLine, "x" | "shown">, place: number): number | undefined {
  let nearest = 0;
  for (let at = 1; at < x.length; at += 1) {
    if (Math.abs((x[at] ?? Infinity) - place) < Math.abs((x[nearest] ?? Infinity) - place)) nearest = at;
  }
  return shown[nearest];
}

/** Joins a chart's box to its group until the returned function is called. A single line tells its value at the cursor. */
export function follow(group: string, box: HTMLElement, now: () => Followed): () => void {
  const cursor = document.createElement("div");
  cursor.className = "chart-cursor";
  cursor.hidden = true;
  box.append(cursor);
  const move: Move = (x) => {
    const { chart, lines } = now();
    const left = x === null || !chart ? NaN : chart.convertToPixel(AXIS, x);
    cursor.hidden = !chart?.containPixel(GRID, [left, box.clientHeight / 2]);
    if (cursor.hidden || x === null) return;
    const [only] = lines;
    cursor.style.left = `${left}px`;
    cursor.textContent = only && lines.length === 1 ? number(valueNear(only, x)) : "";
    cursor.dataset["side"] = left > box.clientWidth / 2 ? "left" : "right";
  };
  const members = groups.get(group) ?? new Set();
  groups.set(group, members.add(move));
  let pointed: number | null = null;
  let frame = 0;
  const tell = (x: number | null) => {
    pointed = x;
    if (frame === 0) frame = requestAnimationFrame(() => {
      frame = 0;
      for (const other of members) if (other !== move) other(pointed);
    });
  };
  const enter = (event: MouseEvent) => {
    const { chart } = now();
    const isInside = chart?.containPixel(GRID, [event.offsetX, event.offsetY]) === true;
    tell(chart && isInside ? chart.convertFromPixel(AXIS, event.offsetX) : null);
  };
  const leave = () => tell(null);
  box.addEventListener("mousemove", enter);
  box.addEventListener("mouseleave", leave);
  return () => {
    box.removeEventListener("mousemove", enter);
    box.removeEventListener("mouseleave", leave);
    cancelAnimationFrame(frame);
    members.delete(move);
    if (members.size === 0) groups.delete(group);
    cursor.remove();
  };
}
