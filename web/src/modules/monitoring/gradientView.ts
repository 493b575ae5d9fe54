/** What the tab of gradients shows, as the address tells it. Pure. */
import { fromText, type Stretch } from "../../ui/stretch";
import { METRICS, SCALES, type By, type Metric, type ScaleName } from "./heat";

export const KINDS: By[] = ["layer", "tensor", "group"];
export const CLIPS = [0, 1, 5] as const;
export const MODES = ["beside", "ratio"] as const;

export interface GradientView {
  metric: Metric;
  by: By;
  scale: ScaleName;
  /** Per cent of the values beyond either end of the colours. */
  clip: number;
  stretch: Stretch | null;
  /** What is shown in detail: a name, and the last step of its column. */
  cell: { name: string; step: number } | null;
  /** The run it is compared with. */
  other: number | null;
  mode: (typeof MODES)[number];
}

export function gradientViewOf(address: URLSearchParams): GradientView {
  const one = <T,>(name: string, known: readonly T[], first: T): T => known.find((value) => String(value) === address.get(name)) ?? first;
  const other = Number(address.get("with"));
  return {
    metric: one("stat", METRICS, "norm"),
    by: one("by", KINDS, "layer"),
    scale: one("scale", SCALES, "auto"),
    clip: one<number>("range", CLIPS, 1),
    stretch: fromText(address.get("steps")),
    cell: cellOf(address.get("cell")),
    other: Number.isInteger(other) && other > 0 ? other : null,
    mode: one("mode", MODES, "beside"),
  };
}

export function cellText(name: string, step: number): string {
  return `${step}@${name}`;
}

function cellOf(text: string | null): GradientView["cell"] {
  const found = /^(\d{1,15})@(.+)$/.exec(text ?? "");
  return found ? { step: Number(found[1]), name: found[2] ?? "" } : null;
}
