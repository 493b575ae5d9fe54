/** Stacked bars of one scale, and the look of each purpose. Pure. */

export interface Bar {
  key: string;
  label: string;
  bytes: number;
  parts: { name: string; bytes: number }[];
  fits: boolean;
  isMarked?: boolean;
}

/** Colours that colour-blind eyes tell apart (Okabe and Ito 2008); stripes are of another model than the one that trains. */
const LOOKS: Record<string, [colour: string, isStriped: boolean]> = {
  weights: ["#0072B2", false],
  gradients: ["#E69F00", false],
  optimizer: ["#009E73", false],
  activations: ["#56B4E9", false],
  logits: ["#CC79A7", false],
  cache: ["#D55E00", false],
  workspace: ["#8a9499", false],
  policy: ["#0072B2", true],
  reference: ["#009E73", true],
  critic: ["#E69F00", true],
  "rollout weights": ["#D55E00", true],
};
const ORDER = ["weights", "gradients", "optimizer", "activations", "logits", "policy", "reference", "critic", "rollout weights", "cache", "workspace"];

export function background(name: string): string {
  const [colour, isStriped] = LOOKS[name] ?? ["#8a9499", true];
  return isStriped ? `repeating-linear-gradient(135deg, ${colour} 0 4px, color-mix(in srgb, ${colour} 45%, var(--well)) 4px 7px)` : colour;
}

/** Parts in the order in which every bar has them. */
export function ordered<T extends { name: string }>(parts: readonly T[]): T[] {
  const place = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...parts].sort((a, b) => place(a.name) - place(b.name));
}

/** All purposes of some bars, in that order. */
export function purposes(bars: readonly Bar[]): string[] {
  const names = [...new Set(bars.flatMap((bar) => bar.parts.filter((part) => part.bytes > 0).map((part) => part.name)))];
  return ordered(names.map((name) => ({ name }))).map(({ name }) => name);
}

const GIB = 1024 ** 3;
const ABOUT_TICKS = 5;

export interface Scale {
  /** In bytes. */
  end: number;
  /** In GiB. */
  ticks: number[];
}

/** A scale from nothing that holds all bars and the device. */
export function scaleOf(bars: readonly Bar[], device: number): Scale {
  const most = Math.max(device, ...bars.map((bar) => bar.bytes)) * 1.03;
  const rough = most / GIB / ABOUT_TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const ticks = Array.from({ length: Math.floor(most / GIB / step) + 1 }, (_, at) => Number((at * step).toPrecision(6)));
  return { end: most, ticks };
}
