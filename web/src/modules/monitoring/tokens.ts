/** Colours of tokens. Pure. */
import { quantile } from "./heat";
import type { Colouring, Rollout } from "./rolloutView";

/** Values beyond this share of all are as strong as a colour gets, so that one token does not leave the others pale. */
const STRONGEST = 0.98;
/** Nats; what is smaller is rounding. */
const LEAST_END = 1e-4;

export interface Colours {
  /** For each token from -1 to 1; null is what is not known. */
  strengths: (number | null)[];
  /** Value of strength 1. */
  end: number;
  /** Values have signs. */
  isSigned: boolean;
  isClipped: boolean;
}

/** The settings that a completion has values for. */
export function known(rollout: Rollout): Colouring[] {
  const with_ = (["entropy", "kl", "logprob", "advantages"] as const).filter((name) => rollout[name] !== null);
  return rollout.tokens === null ? [] : ["none", ...with_];
}

/** How strongly each token is coloured; of a log-probability, how improbable it was. Null for no colours. */
export function coloursOf(rollout: Rollout, colouring: Colouring): Colours | null {
  if (colouring === "none") return null;
  const values = rollout[colouring];
  if (values === null) return null;
  const sizes = values.filter((value): value is number => value !== null).map(Math.abs).sort((a, b) => a - b);
  const end = Math.max(sizes.length ? quantile(sizes, STRONGEST) : 0, LEAST_END);
  const isSigned = colouring === "advantages";
  const strengths = values.map((value) => {
    if (value === null) return null;
    const strength = Math.min(1, Math.abs(value) / end);
    return isSigned && value < 0 ? -strength : strength;
  });
  return { strengths, end, isSigned, isClipped: (sizes.at(-1) ?? 0) > end };
}
