import { describe, expect, it } from "vitest";
import type { Line, Lines } from "../monitoring/series";
import {
  chosenIds,
  configOf,
  configRows,
  defaultAxes,
  defaultPair,
  dimensions,
  flattened,
  isMarked,
  MAX_RUNS,
  parallelAxes,
  shared,
  shortNames,
  unionOfMetrics,
} from "./logic";
import { parallelOption, placed, pointText } from "./plotOptions";

function line(name: string, attempt = 1, times = [10, 20], values = [1, 2]): Line {
  return { name, attempt, writer: "0", steps: values.map((_, at) => at + 1), times, values, isThinned: false };
}

function linesOf(...all: Line[]): Lines {
  return new Map(all.map((one) => [`${one.name}\n${one.attempt}\n${one.writer}`, one]));
}

const job = (learning_rate: number, last_values: Record<string, number | string>, seed = 0, ownSeed: number | null = null) => ({
  seed,
  last_values,
  spec: { name: `run at ${learning_rate}`, seed: ownSeed, task: { algorithm: "grpo", optim: { learning_rate, steps: 30 } } },
});

describe("the runs of an address", () => {
  it("are taken in their order, each once, without what is no number", () => {
    expect(chosenIds("15, 12,15,x,-3,0,1.5,18,")).toEqual({ ids: [15, 12, 18], numLeftOut: 0 });
    expect(chosenIds("")).toEqual({ ids: [], numLeftOut: 0 });
  });

  it("are cut to the first twenty, and how many are left out is told", () => {
    const { ids, numLeftOut } = chosenIds(Array.from({ length: 23 }, (_, at) => at + 1).join(","));
    expect(ids).toEqual(Array.from({ length: MAX_RUNS }, (_, at) => at + 1));
    expect(numLeftOut).toBe(3);
  });
});

describe("a job file", () => {
  it("is flattened to dotted keys; lists of values are one value", () => {
    const spec = { task: { rewards: [{ name: "exact" }, { name: "format", weight: 0.2 }], stop: ["a", "b"], params: {} }, after: [], off: null };
    expect(Object.fromEntries(flattened(spec))).toEqual({
      "task.rewards.0.name": "exact",
      "task.rewards.1.name": "format",
      "task.rewards.1.weight": 0.2,
      "task.stop": '["a","b"]',
      "task.params": "{}",
      after: "[]",
      off: null,
    });
  });

  it("does not tell the name and the seed again", () => {
    expect([...configOf(job(0.1, {})).keys()]).toEqual(["task.algorithm", "task.optim.learning_rate", "task.optim.steps"]);
  });

  it("differs where a value differs, or is missing in some runs", () => {
    const rows = configRows([flattened({ a: 1, b: 2, c: null }), flattened({ a: 1, b: 3 }), flattened({ a: 1, b: 2 })]);
    expect(rows.map((row) => [row.key, row.isDifferent])).toEqual([["a", false], ["b", true], ["c", true]]);
    expect(rows[1] && [0, 1, 2].map((index) => rows[1] && isMarked(rows[1], index))).toEqual([false, true, false]);
    expect(rows[2]?.values).toEqual(["null", undefined, undefined]);
  });

  it("tells the text 1 from the number 1", () => {
    const [row] = configRows([flattened({ a: "1" }), flattened({ a: 1 })]);
    expect(row).toEqual({ key: "a", values: ['"1"', "1"], isDifferent: true });
  });

  it("has its keys in the order of their numbers", () => {
    const keys = configRows([flattened({ x: Array.from({ length: 11 }, (_, at) => ({ n: at })) })]).map((row) => row.key);
    expect(keys.indexOf("x.10.n")).toBe(10);
  });
});

describe("the metrics of several runs", () => {
  const runs = [
    { id: 12, name: "a #12", lines: linesOf(line("loss", 2), line("loss", 1), line("entropy")) },
    { id: 15, name: "b #15", lines: linesOf(line("loss"), line("accuracy"), line("zzz")) },
  ];

  it("are their union, the main ones first, each with the runs that have it", () => {
    const metrics = unionOfMetrics(runs, "");
    expect(metrics.map(([metric, own]) => [metric, own.map((run) => run.jobId)])).toEqual([
      ["accuracy", [15]],
      ["entropy", [12]],
      ["loss", [12, 15]],
      ["zzz", [15]],
    ]);
  });

  it("keep the attempts of a run in order", () => {
    const [, own] = unionOfMetrics(runs, "^loss$")[0] ?? ["", []];
    expect(own[0]?.lines.map((one) => one.attempt)).toEqual([1, 2]);
  });

  it("are filtered by a regular expression; what is none is matched as text", () => {
    expect(unionOfMetrics(runs, "^(loss|zz)").map(([metric]) => metric)).toEqual(["loss", "zzz"]);
    expect(unionOfMetrics(runs, "loss(")).toEqual([]);
  });
});

describe("the points of several runs", () => {
  it("stay the same objects over a refetch that brought nothing new", () => {
    const before = linesOf(line("a"), line("b"));
    expect(shared(before, linesOf(line("a"), line("b")))).toBe(before);
    const after = shared(before, linesOf(line("a"), line("b", 1, [10, 20, 30], [1, 2, 3])));
    expect(after.get("a\n1\n0")).toBe(before.get("a\n1\n0"));
    expect(after.get("b\n1\n0")?.values).toEqual([1, 2, 3]);
  });
});

describe("the dimensions of runs", () => {
  const found = dimensions([job(1e-5, { loss: 2, accuracy: "NaN" }, 0), job(1e-3, { loss: 1, reward_mean: 0.5 }, 1)]);

  it("are numeric keys and newest values; what is no finite number is missing", () => {
    expect(found.map((one) => [one.id, one.values])).toEqual([
      ["seed", [0, 1]],
      ["task.optim.learning_rate", [1e-5, 1e-3]],
      ["task.optim.steps", [30, 30]],
      ["value:loss", [2, 1]],
      ["value:reward_mean", [undefined, 0.5]],
    ]);
  });

  it("are shown at first where keys differ, with the main metrics", () => {
    expect(defaultAxes(found)).toEqual(["task.optim.learning_rate", "value:reward_mean", "value:loss"]);
    expect(defaultPair(found)).toEqual(["task.optim.learning_rate", "value:reward_mean"]);
    expect(defaultPair([])).toEqual([undefined, undefined]);
  });

  it("count a seed as different where the job files give it, not where the server drew it", () => {
    expect(found.find((one) => one.id === "seed")?.isDifferent).toBe(false);
    expect(defaultAxes(dimensions([job(1, {}, 3, 3), job(1, {}, 4, 4)]))).toEqual(["seed"]);
  });

  it("make parallel axes: short names, a log scale where values spread wide, unknown ones dropped", () => {
    const axes = parallelAxes(found, ["value:loss", "gone", "task.optim.learning_rate"]);
    expect(axes.map((axis) => [axis.name, axis.isLog])).toEqual([["loss", false], ["learning_rate", true]]);
  });

  it("have the shortest names that still tell them apart", () => {
    expect(shortNames(["task.optim.steps", "task.eval.steps", "task.lr", "loss"])).toEqual(["optim.steps", "eval.steps", "lr", "loss"]);
  });
});

describe("drawings of runs", () => {
  const found = dimensions([job(0, { loss: 2 }), job(1e-3, { loss: 1 }), job(1e-2, {})]);
  const names = [1, 2, 3].map((id) => ({ id, name: `<b>{x|run}</b> #${id}` }));
  const [rate, loss] = [found.find((one) => one.id === "task.optim.learning_rate"), found.find((one) => one.id === "value:loss")];

  it("leave out runs without a value that the axes can show", () => {
    if (!rate || !loss) throw new Error("dimensions are missing");
    expect(placed(names, rate, loss, { isLogX: false, isLogY: false }).map((point) => point.id)).toEqual([1, 2]);
    expect(placed(names, rate, loss, { isLogX: true, isLogY: false }).map((point) => point.id)).toEqual([2]);
  });

  it("show names as text on the canvas, without the canvas' own markup", () => {
    if (!rate || !loss) throw new Error("dimensions are missing");
    expect(pointText({ id: 1, name: "<b>{x|run}</b>", x: 1, y: 2 }, rate, loss).split("\n")[0]).toBe("<b>(x|run)</b>");
    expect(parallelOption(names, parallelAxes(found, defaultAxes(found)))).toMatchObject({ tooltip: { renderMode: "richText" } });
  });

  it("break a line where a run has no value", () => {
    const option = parallelOption(names, parallelAxes(found, ["task.optim.learning_rate", "value:loss"]));
    expect(option["series"]).toMatchObject([{ data: [{ value: [0, 2] }, { value: [1e-3, 1] }, { value: [1e-2, "-"] }] }]);
  });
});
