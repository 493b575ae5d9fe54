import { describe, expect, it } from "vitest";
import type { Streamed } from "../../api/client";
import { appended, family, figures, fromSeries, smoothed } from "./series";

function metrics(cursor: number, step: number, values: Record<string, number | "NaN">): Streamed {
  return { cursor, attempt: 1, writer: "rank0", event: { type: "metrics", seq: cursor, time: step, step, values } };
}

describe("series", () => {
  it("grow at their ends and leave untouched lines the same objects", () => {
    const first = appended(new Map(), [metrics(1, 1, { loss: 2, lr: 1 })]);
    const second = appended(first, [metrics(2, 2, { loss: 1 }), metrics(3, 3, { loss: 0.5 })]);
    const line = (lines: typeof first, name: string) => [...lines.values()].find((one) => one.name === name);
    expect(line(second, "loss")?.values).toEqual([2, 1, 0.5]);
    expect(line(second, "lr")).toBe(line(first, "lr"));
    expect(line(first, "loss")?.values).toEqual([2]);
  });

  it("keep what is not finite as such", () => {
    const lines = fromSeries([{ name: "loss", attempt: 1, writer: "r", steps: [1, 2], times: [1, 2], values: ["NaN", 3], num_points: 2 }]);
    const found = figures([...lines.values()]);
    expect(found).toEqual({ last: 3, min: 3, max: 3, numNonFinite: 1 });
  });

  it("are smoothed without being pulled to zero, around what is not finite", () => {
    expect(smoothed([4, 4, 4], 0.9)).toEqual([4, 4, 4]);
    expect(smoothed([1, NaN, 1], 0.5)[1]).toBeNaN();
    expect(smoothed([1, NaN, 1], 0.5)[2]).toBe(1);
    const line = [1, 2];
    expect(smoothed(line, 0)).toBe(line);
  });

  it("are sorted into families", () => {
    expect(family("reward/exact_mean")).toBe("reward");
    expect(family("native/loss")).toBe("native");
    expect(family("policy_loss")).toBe("loss");
    expect(family("something")).toBe("other");
  });
});
