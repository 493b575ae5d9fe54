import { describe, expect, it } from "vitest";
import type { Rollout } from "./rolloutView";
import { coloursOf, known } from "./tokens";

const rollout = (more: Partial<Rollout>): Rollout => ({ tokens: ["a", "b", "c"], entropy: null, kl: null, logprob: null, advantages: null, ...more }) as Rollout;

describe("colours", () => {
  it("grow with the value up to the end of the scale", () => {
    expect(coloursOf(rollout({ entropy: [0, 1, 2] }), "entropy")).toMatchObject({ strengths: [0, expect.closeTo(0.51, 2), 1], isSigned: false, isClipped: true });
  });
  it("show how improbable a token was", () => {
    expect(coloursOf(rollout({ logprob: [0, -2, -2] }), "logprob")?.strengths).toEqual([0, 1, 1]);
  });
  it("have two directions where values have signs", () => {
    expect(coloursOf(rollout({ advantages: [1, -1, null] }), "advantages")).toMatchObject({ strengths: [1, -1, null], isSigned: true, end: 1 });
  });
  it("do not make rounding look like something", () => {
    expect(coloursOf(rollout({ kl: [0, 1e-9, 0] }), "kl")?.strengths).toEqual([0, 1e-5, 0]);
  });
  it("are none where nothing is known or asked for", () => {
    expect(coloursOf(rollout({}), "kl")).toBeNull();
    expect(coloursOf(rollout({ kl: [1] }), "none")).toBeNull();
  });
});

describe("settings", () => {
  it("are those that the completion has values for", () => {
    expect(known(rollout({ entropy: [1], advantages: [1] }))).toEqual(["none", "entropy", "advantages"]);
    expect(known(rollout({ tokens: null }))).toEqual([]);
  });
});
