import { describe, expect, it } from "vitest";
import type { Streamed } from "../../api/client";
import { byMetric, family, figures, fromPage, grown, NOTHING, smoothed, thinned, type Held, type Line } from "./series";

function metrics(cursor: number, step: number, values: Record<string, number | "NaN" | "Infinity">): Streamed {
  return { cursor, attempt: 1, writer: "rank0", event: { type: "metrics", seq: cursor, time: step, step, values } };
}

const line = (held: Held, name: string): Line | undefined => [...held.lines.values()].find((one) => one.name === name);

function plain(values: number[]): Line {
  return { name: "loss", attempt: 1, writer: "rank0", steps: values.map((_, at) => at), times: values.map((_, at) => at), values };
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
  });

  it("are sorted into families", () => {
    expect(family("reward/exact_mean")).toBe("reward");
    expect(family("native/loss")).toBe("native");
    expect(family("policy_loss")).toBe("loss");
    expect(family("something")).toBe("other");
  });
});
