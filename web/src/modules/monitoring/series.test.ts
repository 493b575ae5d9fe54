import { describe, expect, it } from "vitest";
import type { Streamed } from "../../api/client";
import { batches, byMetric, family, figures, fromPage, grown, inFamilies, isPattern, joined, NOTHING, smoothed, spliced, thinned, type Held, type Line } from "./series";

function metrics(cursor: number, step: number, values: Record<string, number | "NaN" | "Infinity">): Streamed {
  return { cursor, attempt: 1, writer: "rank0", event: { type: "metrics", seq: cursor, time: step, step, values } };
}

const line = (held: Held, name: string): Line | undefined => [...held.lines.values()].find((one) => one.name === name);

function plain(values: number[]): Line {
  return { name: "loss", attempt: 1, writer: "rank0", steps: values.map((_, at) => at), times: values.map((_, at) => at), values, isThinned: false };
}

describe("live series", () => {
  it("grow at their ends and leave untouched lines the same objects", () => {
    const first = grown(NOTHING, [metrics(1, 1, { loss: 2, lr: 1 })]);
    const second = grown(first, [metrics(2, 2, { loss: 1 }), metrics(3, 3, { loss: 0.5 })]);
    expect(line(second, "loss")?.values).toEqual([2, 1, 0.5]);
    expect(line(second, "lr")).toBe(line(first, "lr"));
    expect(line(first, "loss")?.values).toEqual([2]);
  });

  it("take each event once, also when a connection sends some again", () => {
    const first = grown(NOTHING, [metrics(1, 1, { loss: 3 }), metrics(2, 2, { loss: 2 })]);
    const second = grown(first, [metrics(1, 1, { loss: 3 }), metrics(2, 2, { loss: 2 }), metrics(3, 3, { loss: 1 })]);
    expect(line(second, "loss")?.steps).toEqual([1, 2, 3]);
    expect(grown(second, [metrics(3, 3, { loss: 1 })])).toBe(second);
  });

  it("go on after the cursor of the page that was loaded", () => {
    const page = { series: [{ name: "loss", attempt: 1, writer: "rank0", steps: [1, 2], times: [1, 2], values: [3, 2], num_points: 2 }], cursor: 7 };
    const held = grown(fromPage(page), [metrics(6, 2, { loss: 2 }), metrics(8, 3, { loss: 1 })]);
    expect(line(held, "loss")?.steps).toEqual([1, 2, 3]);
    expect(held.cursor).toBe(8);
  });

  it("of metrics that were read at different cursors go on after their own", () => {
    const page = (name: string, cursor: number) => ({ series: [{ name, attempt: 1, writer: "rank0", steps: [1], times: [1], values: [3], num_points: 9 }], cursor });
    const held = joined(joined({ ...NOTHING, cursor: 4 }, page("loss", 5)), page("lr", 7));
    const after = grown(held, [metrics(5, 2, { loss: 2, lr: 2, late: 2 }), metrics(6, 3, { loss: 1, lr: 1 }), metrics(8, 4, { loss: 0, lr: 0 })]);
    expect(line(after, "loss")?.steps).toEqual([1, 3, 4]);
    expect(line(after, "lr")?.steps).toEqual([1, 4]);
    expect(line(after, "late")?.steps).toEqual([2]);
    expect(line(after, "loss")?.isThinned).toBe(true);
  });

  it("are in the order of their cursors", () => {
    const held = grown(NOTHING, [metrics(2, 2, { loss: 2 }), metrics(1, 1, { loss: 1 })]);
    expect(line(held, "loss")?.steps).toEqual([1, 2]);
  });

  it("are thinned when they get long, but keep ends, extremes and what is not finite", () => {
    const values = Array.from({ length: 1000 }, (_, at) => Math.sin(at));
    values[333] = 50;
    values[500] = NaN;
    values[666] = -50;
    const short = thinned(plain(values), 100);
    expect(short.values.length).toBeLessThanOrEqual(102);
    expect(short.steps).toEqual([...short.steps].sort((a, b) => a - b));
    for (const step of [0, 333, 500, 666, 999]) expect(short.steps).toContain(step);
  });

  it("are thinned by the live stream", () => {
    const events = Array.from({ length: 90 }, (_, at) => metrics(at + 1, at, { loss: at }));
    expect(line(grown(NOTHING, events, 40), "loss")?.values.length).toBeLessThanOrEqual(40);
    expect(line(grown(NOTHING, events, 45), "loss")?.values.length).toBe(90);
  });
});

describe("series", () => {
  it("keep what is not finite as such", () => {
    const held = grown(NOTHING, [metrics(1, 1, { loss: "NaN" }), metrics(2, 2, { loss: "Infinity" }), metrics(3, 3, { loss: 3 })]);
    expect(line(held, "loss")?.values).toEqual([NaN, Infinity, 3]);
    expect(figures([...held.lines.values()])).toEqual({ last: 3, min: 3, max: 3, numNonFinite: 2 });
  });

  it("without a finite value have neither minimum nor maximum", () => {
    expect(figures([plain([NaN])])).toEqual({ last: NaN, min: undefined, max: undefined, numNonFinite: 1 });
  });

  it("are smoothed around what is not finite", () => {
    expect(smoothed([1, NaN, 3], 0.5)).toEqual([1, NaN, 1 + 2 * (0.5 / 0.75)]);
    const values = [1, 2];
    expect(smoothed(values, 0)).toBe(values);
  });

  it("that are constant stay exactly so when smoothed", () => {
    const constant = Array.from({ length: 50 }, () => 0.001);
    expect(new Set(smoothed(constant, 0.6))).toEqual(new Set([0.001]));
  });

  it("are found by a pattern, or by text where it is none", () => {
    const lines = new Map(["a[0]", "loss"].map((name) => [name, { ...plain([1]), name }]));
    expect(byMetric(lines, "lo.s").map(([name]) => name)).toEqual(["loss"]);
    expect(byMetric(lines, "a[").map(([name]) => name)).toEqual(["a[0]"]);
    expect([isPattern("lo.s"), isPattern("a[")]).toEqual([true, false]);
  });

  it("take a stretch in more detail and keep what lies around it", () => {
    const coarse: Line = { ...plain([9, 8, 7, 6]), steps: [0, 10, 20, 30], times: [0, 10, 20, 30], isThinned: true };
    const fine: Line = { ...plain([1, 2, 3]), steps: [9, 10, 11], times: [9, 10, 11] };
    expect(spliced(coarse, fine)).toMatchObject({ steps: [0, 9, 10, 11, 20, 30], values: [9, 1, 2, 3, 7, 6], isThinned: true });
    expect(spliced(coarse, undefined)).toBe(coarse);
    expect(spliced(coarse, plain([]))).toBe(coarse);
  });

  it("are asked for at once where they are short, the first on the page first where they are long", () => {
    const known = (num_points: number) => [...Array.from({ length: 20 }, (_, at) => `x${at}`), "entropy", "loss", "loss"].map((name) => ({ name, num_points }));
    expect(batches(known(10)).map((names) => names.length)).toEqual([22]);
    const [first, ...others] = batches(known(1e6));
    expect(first?.slice(0, 2)).toEqual(["loss", "entropy"]);
    expect(others.map((names) => names.length)).toEqual([12, 6]);
    expect(batches([])).toEqual([]);
  });

  it("stand in sections that have something in them", () => {
    expect(inFamilies([["loss", 1], ["native/x", 2], ["policy_loss", 3]])).toEqual([["loss", [["loss", 1], ["policy_loss", 3]]], ["native", [["native/x", 2]]]]);
  });

  it("are sorted into families", () => {
    expect(family("reward/exact_mean")).toBe("reward");
    expect(family("native/loss")).toBe("native");
    expect(family("policy_loss")).toBe("loss");
    expect(family("something")).toBe("other");
  });
});
