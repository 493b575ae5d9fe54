/** How a chart is zoomed by hand: dragging, the wheel, keys. */
import { moved, scaled, within, type Stretch } from "./stretch";

export interface Zoomed {
  whole: Stretch | null;
  stretch: Stretch | null;
  isLogX: boolean;
  zoom: (stretch: Stretch | null) => void;
}

/** What is drawn, as far as zooming asks it. */
export interface Drawn {
  containPixel: (finder: { gridIndex: number }, pixel: number[]) => boolean;
  convertFromPixel: (finder: { xAxisIndex: number }, pixel: number) => number;
}

const SHORTEST_DRAG = 5;
const WHEEL_FACTOR = 1.25;
const KEY_FACTOR = 2;
const KEY_SHARE = 0.25;
const GRID = { gridIndex: 0 };
const AXIS = { xAxisIndex: 0 };

/** Listens to the box of a chart, which is drawn some time, until the returned function is called. */
export function listen(drawn: () => Drawn | null, box: HTMLElement, now: () => Zoomed | null): () => void {
  const shade = document.createElement("div");
  shade.className = "chart-shade";
  shade.hidden = true;
  box.append(shade);
  let start: number | null = null;
  const placeOf = (event: MouseEvent) => {
    const { left, width } = box.getBoundingClientRect();
    return Math.min(width, Math.max(0, event.clientX - left));
  };
  const press = (event: MouseEvent) => {
    const isInside = drawn()?.containPixel(GRID, [event.offsetX, event.offsetY]);
    if (event.button === 0 && isInside) start = placeOf(event);
  };
  const drag = (event: MouseEvent) => {
    if (start === null) return;
    const end = placeOf(event);
    shade.hidden = Math.abs(end - start) < SHORTEST_DRAG;
    shade.style.left = `${Math.min(start, end)}px`;
    shade.style.width = `${Math.abs(end - start)}px`;
  };
  const release = (event: MouseEvent) => {
    if (start === null) return;
    const pixels = [start, placeOf(event)] as const;
    start = null;
    shade.hidden = true;
    const [chart, zoomed] = [drawn(), now()];
    if (Math.abs(pixels[1] - pixels[0]) < SHORTEST_DRAG || !chart || !zoomed?.whole) return;
    const chosen = { from: chart.convertFromPixel(AXIS, pixels[0]), to: chart.convertFromPixel(AXIS, pixels[1]) };
    const found = within(chosen, zoomed.stretch ?? zoomed.whole);
    if (found) zoomed.zoom(found);
  };
  const wheel = (event: WheelEvent) => {
    const [chart, zoomed] = [drawn(), now()];
    if (!event.ctrlKey || !chart || !zoomed?.whole) return;
    event.preventDefault();
    const { whole, stretch, isLogX, zoom } = zoomed;
    const around = chart.convertFromPixel(AXIS, placeOf(event));
    zoom(scaled(stretch ?? whole, whole, event.deltaY > 0 ? WHEEL_FACTOR : 1 / WHEEL_FACTOR, isLogX, around));
  };
  const showAll = () => now()?.zoom(null);
  box.addEventListener("mousedown", press);
  window.addEventListener("mousemove", drag);
  window.addEventListener("mouseup", release);
  box.addEventListener("wheel", wheel, { passive: false });
  box.addEventListener("dblclick", showAll);
  return () => {
    box.removeEventListener("mousedown", press);
    window.removeEventListener("mousemove", drag);
    window.removeEventListener("mouseup", release);
    box.removeEventListener("wheel", wheel);
    box.removeEventListener("dblclick", showAll);
    shade.remove();
  };
}

/** What a key does to the chart that has the focus; false where it means nothing to it. */
export function pressKey(key: string, isShift: boolean, { whole, stretch, isLogX, zoom }: Zoomed): boolean {
  if (!whole) return false;
  const shown = stretch ?? whole;
  if (key === "+" || key === "=") zoom(scaled(shown, whole, 1 / KEY_FACTOR, isLogX));
  else if (key === "-") zoom(scaled(shown, whole, KEY_FACTOR, isLogX));
  else if (key === "0") zoom(null);
  else if (isShift && key === "ArrowLeft") zoom(moved(shown, whole, -KEY_SHARE, isLogX));
  else if (isShift && key === "ArrowRight") zoom(moved(shown, whole, KEY_SHARE, isLogX));
  else return false;
  return true;
}
