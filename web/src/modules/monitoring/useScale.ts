import { useMemo, useState } from "react";
import { BY_STEP, clockOf, tokenLines, tokensOf, type Axis, type Scale } from "./axis";
import { areSame, type Line, type Lines } from "./series";

const NONE: Line[] = [];

/**
 * What the axis counts, of one run; steps where it shall count tokens and the run does not. The same object until what
 * the axis needs of the run changes.
 */
export function useScale(jobId: number, lines: Lines, axis: Axis): { scale: Scale; unit: string; hasTokens: boolean } {
  const { starts, unit } = useMemo(() => clockOf([{ id: jobId, lines }]), [jobId, lines]);
  const start = starts.get(jobId) ?? 0;
  const counts = useMemo(() => tokenLines(lines), [lines]);
  const [held, setHeld] = useState(NONE);
  if (axis === "tokens" && !areSame(held, counts)) setHeld(counts);
  const scale = useMemo((): Scale => {
    if (axis === "time") return { ...BY_STEP, axis };
    if (axis === "elapsed") return { ...BY_STEP, axis, start, unit };
    return axis === "tokens" && held.length > 0 ? { ...BY_STEP, axis, tokens: tokensOf(held) } : BY_STEP;
  }, [axis, start, unit, held]);
  return { scale, unit: unit.name, hasTokens: counts.length > 0 };
}
