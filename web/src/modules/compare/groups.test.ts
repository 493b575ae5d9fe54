import { describe, expect, it } from "vitest";
import { BY_STEP } from "../monitoring/axis";
import type { Line } from "../monitoring/series";
import { chain, groupKeys, groupsOf, inGroups, meanOf } from "./groups";
import type { Known } from "./logic";

function line(steps: number[], values: number[], attempt = 1, writer = "rank0"): Line {
  return { name: "loss", attempt, writer, steps, times: steps, values, isThinned: false };
}

const run = (id: number, task: Record<string, unknown>) => ({ id, job: { spec: { task } } as unknown as Known["job"] });

describe("groups of runs", () => {
  const runs = [run(8, { rate: 0.01, steps: 30 }), run(1, { rate: 0.001, steps: 30 }), run(2, { rate: 0.01, steps: 30 }), run(3, { steps: 30 })];

  it("are one for each value of the key, in the order of the values; runs without it are one too", () => {
    expect(groupsOf(runs, "task.rate").map((group) => [group.name, group.ids])).toEqual([["rate = 0.001", [1]], ["rate = 0.01", [8, 2]], ["rate = –", [3]]]);
  });

  it("have colours that differ, their first run's where it is free", () => {
    const [first, second, third] = groupsOf(runs, "task.rate").map((group) => group.colour);
    expect(new Set([first, second, third]).size).toBe(3);
    expect(first).toBe("#D55E00");
    expect(second).toBe("#009E73");
  });

  it("can be by any key, those that differ first", () => {
    expect(groupKeys(runs)).toEqual([{ key: "task.rate", isDifferent: true }, { key: "task.steps", isDifferent: false }]);
  });

  it("hold the runs that have the metric", () => {
    const own = [{ jobId: 2, name: "b", lines: [line([1], [1])] }];
    expect(inGroups(own, groupsOf(runs, "task.rate")).map((one) => [one.group.name, one.runs.length])).toEqual([["rate = 0.01", 1]]);
  });
});

describe("the mean of a group", () => {
  it("has a band from the lowest to the highest", () => {
    const found = meanOf([{ x: [1, 2], values: [1, 2] }, { x: [1, 2], values: [3, 6] }]);
    expect(found).toEqual({ x: [1, 2], mean: [2, 4], low: [1, 2], high: [3, 6], counts: [2, 2], lost: [] });
  });

  it("is that of the runs that have the step where they are of different lengths", () => {
    const found = meanOf([{ x: [1, 2, 3], values: [1, 1, 1] }, { x: [2], values: [5] }, { x: [2, 3], values: [3, 7] }]);
    expect(found.x).toEqual([1, 2, 3]);
    expect(found.counts).toEqual([1, 3, 2]);
    expect(found.mean).toEqual([1, 3, 4]);
    expect(found.high).toEqual([1, 5, 7]);
  });

  it("takes a straight line where a run logged at other steps, but nothing beyond its ends", () => {
    const found = meanOf([{ x: [0, 10], values: [0, 10] }, { x: [5, 20], values: [1, 4] }]);
    expect(found.x).toEqual([0, 5, 10, 20]);
    expect(found.mean).toEqual([0, (5 + 1) / 2, (10 + 2) / 2, 4]);
    expect(found.counts).toEqual([1, 2, 2, 1]);
  });

  it("is not taken of what is not finite, which is told", () => {
    const found = meanOf([{ x: [1, 2, 3], values: [1, NaN, 3] }, { x: [1, 2, 3], values: [1, 4, Infinity] }]);
    expect(found.mean).toEqual([1, 3, 3]);
    expect(found.lost).toEqual([{ x: 2, value: NaN }, { x: 3, value: Infinity }]);
    expect(meanOf([{ x: [1], values: [NaN] }]).x).toEqual([]);
  });

  it("has no more places than a chart can show, the last among them", () => {
    const long = { x: Array.from({ length: 9001 }, (_, at) => at), values: Array.from({ length: 9001 }, () => 1) };
    const found = meanOf([long]);
    expect(found.x.length).toBeLessThanOrEqual(2001);
    expect(found.x.at(-1)).toBe(9000);
  });
});

describe("a run with several attempts", () => {
  it("is what survived: an attempt counts up to where the next began", () => {
    const lines = [line([1, 2, 3, 4], [1, 2, 3, 4]), line([3, 4, 5], [30, 40, 50], 2)];
    expect(chain(lines, BY_STEP)).toEqual({ x: [1, 2, 3, 4, 5], values: [1, 2, 30, 40, 50] });
  });

  it("is one curve where several wrote the metric", () => {
    expect(chain([line([1], [7], 1, "rank1"), line([1], [5])], BY_STEP)).toEqual({ x: [1], values: [5] });
  });
});
