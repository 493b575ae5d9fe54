/** Stretches of a horizontal axis: chosen, widened, narrowed and moved. Pure. */

/** From one place of the axis to another, both included. */
export interface Stretch {
  from: number;
  to: number;
}

/** Less than this share of the whole cannot be told apart on the axis. */
const LEAST_SHARE = 1e-9;
const DIGITS = 13;

const scale = (isLog: boolean) => (isLog ? [Math.log10, (value: number) => 10 ** value] : [Number, Number]) as [(value: number) => number, (value: number) => number];

/** The ends of what is there; a logarithmic axis begins at its first positive place. */
export function extent(xs: number[][], isLog: boolean): Stretch | null {
  let from = Infinity;
  let to = -Infinity;
  for (const x of xs) {
    for (const place of x) {
      if (!Number.isFinite(place) || (isLog && place <= 0)) continue;
      if (place < from) from = place;
      if (place > to) to = place;
    }
  }
  return from <= to ? { from, to } : null;
}

/** The stretch made `factor` times as wide around a place; null when it would show all. */
export function scaled(shown: Stretch, whole: Stretch, factor: number, isLog: boolean, around?: number): Stretch | null {
  const [there, back] = scale(isLog);
  const [from, to] = [there(shown.from), there(shown.to)];
  const centre = around === undefined ? (from + to) / 2 : there(around);
  return within({ from: back(centre - (centre - from) * factor), to: back(centre + (to - centre) * factor) }, whole);
}

/** The stretch moved by a share of its width, as far as there is something to see. */
export function moved(shown: Stretch, whole: Stretch, share: number, isLog: boolean): Stretch | null {
  const [there, back] = scale(isLog);
  const width = there(shown.to) - there(shown.from);
  const by = Math.min(there(whole.to) - there(shown.to), Math.max(there(whole.from) - there(shown.from), share * width));
  return within({ from: back(there(shown.from) + by), to: back(there(shown.to) + by) }, whole);
}

/** What of the stretch lies in the whole; null for all of it, and for what is too narrow to draw. */
export function within(wanted: Stretch, whole: Stretch): Stretch | null {
  const from = Math.max(whole.from, Math.min(wanted.from, wanted.to));
  const to = Math.min(whole.to, Math.max(wanted.from, wanted.to));
  if (from <= whole.from && to >= whole.to) return null;
  return to - from > LEAST_SHARE * (whole.to - whole.from) ? { from, to } : null;
}

/** Indices of the points that a line through the stretch needs: those in it and their neighbours. */
export function visible(x: number[], { from, to }: Stretch): number[] {
  const isIn = (place: number | undefined) => place !== undefined && place >= from && place <= to;
  const isOver = (left: number | undefined, right: number | undefined) => left !== undefined && right !== undefined && Math.min(left, right) < from && Math.max(left, right) > to;
  return x.flatMap((place, at) => {
    const [before, after] = [x[at - 1], x[at + 1]];
    return isIn(place) || isIn(before) || isIn(after) || isOver(place, after) || isOver(before, place) ? [at] : [];
  });
}

export function asText({ from, to }: Stretch): string {
  return [from, to].map((place) => String(Number(place.toPrecision(DIGITS)))).join("~");
}

/** The stretch of an address; null where it has none that makes sense. */
export function fromText(text: string | null): Stretch | null {
  const ends = (text ?? "").split("~").map((part) => (part.trim() === "" ? NaN : Number(part)));
  const [from, to] = ends;
  return ends.length === 2 && Number.isFinite(from) && Number.isFinite(to) && (from ?? 0) < (to ?? 0) ? { from: from ?? 0, to: to ?? 0 } : null;
}
