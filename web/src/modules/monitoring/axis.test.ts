import { describe, expect, it } from "vitest";
import { BY_STEP, clockOf, pointsOf, stepsWithin, tokenLines, tokensAt, tokensOf, type Scale } from "./axis";
import type { Line, Lines } from "./series";

function line(name: string, steps: number[], values: number[], attempt = 1, times = steps): Line {
  return { name, attempt, writer: "rank0", steps, times, values, isThinned: false };
}

function linesOf(...all: Line[]): Lines {
  return new Map(all.map((one) => [`${one.name}\n${one.attempt}\n${one.writer}`, one]));
}

const SECONDS = { name: "s", seconds: 1 } as const;

describe("the clock of runs", () => {
  it("starts at each run's first point and has the unit that keeps the axis short", () => {
    const { starts, unit } = clockOf([
      { id: 1, lines: linesOf(line("a", [1, 2], [1, 2], 1, [100, 200]), line("b", [1, 2], [1, 2], 1, [90, 150])) },
      { id: 2, lines: new Map() },
    ]);
    expect([...starts]).toEqual([[1, 90]]);
    expect(unit.name).toBe("s");
    expect(clockOf([{ id: 1, lines: linesOf(line("a", [1, 2], [1, 2], 1, [0, 100_000])) }]).unit.name).toBe("min");
    expect(clockOf([{ id: 1, lines: linesOf(line("a", [1, 2], [1, 2], 1, [0, 5e6])) }]).unit.name).toBe("h");
  });
});

describe("tokens by step", () => {
  it("come from the run's own count of them, under whichever name it has", () => {
    const found = (...names: string[]) => tokenLines(linesOf(...names.map((name) => line(name, [1], [1])))).map((one) => one.name);
    expect(found("loss", "train/num_tokens", "tokens_seen")).toEqual(["tokens_seen"]);
    expect(found("loss", "train/num_tokens")).toEqual(["train/num_tokens"]);
    expect(found("loss", "generation_tokens_per_second", "max_num_tokens_allowed")).toEqual([]);
  });

  it("lie on a straight line between two steps that have one, and nowhere outside", () => {
    const curve = tokensOf([line("tokens_seen", [30, 10, 20], [900, 100, NaN])]).get(1) ?? { steps: [], values: [] };
    expect([10, 20, 25, 30].map((step) => tokensAt(curve, step))).toEqual([100, 500, 700, 900]);
    expect([9, 31].map((step) => tokensAt(curve, step))).toEqual([NaN, NaN]);
  });

  it("are each attempt's own; points without a place are left out", () => {
    const tokens = tokensOf([line("tokens_seen", [1, 2], [10, 20]), line("tokens_seen", [2, 3], [20, 40], 2)]);
    const scale: Scale = { ...BY_STEP, axis: "tokens", tokens };
    expect(pointsOf(line("loss", [0, 1, 2], [5, 6, 7]), scale)).toEqual({ x: [10, 20], values: [6, 7] });
    expect(pointsOf(line("loss", [3], [8], 2), scale)).toEqual({ x: [40], values: [8] });
    expect(pointsOf(line("loss", [3], [8], 3), scale)).toEqual({ x: [], values: [] });
  });
});

describe("places on the axis", () => {
  const loss = line("loss", [1, 2, 3, 4], [5, NaN, 7, 8], 1, [100, 110, 120, 130]);

  it("are steps, milliseconds, or time since the start of the run", () => {
    expect(pointsOf(loss, BY_STEP)).toEqual({ x: [1, 2, 3, 4], values: [5, NaN, 7, 8] });
    expect(pointsOf(loss, { ...BY_STEP, axis: "time" }).x).toEqual([100_000, 110_000, 120_000, 130_000]);
    expect(pointsOf(loss, { ...BY_STEP, axis: "elapsed", start: 100, unit: SECONDS }).x).toEqual([0, 10, 20, 30]);
    expect(pointsOf(loss, { ...BY_STEP, axis: "elapsed", start: 100, unit: { name: "min", seconds: 60 } }).x[3]).toBe(0.5);
  });

  it("tell which steps lie between two of them, with a neighbour on each side", () => {
    expect(stepsWithin([loss], BY_STEP, 2, 2)).toEqual([1, 3]);
    expect(stepsWithin([loss], { ...BY_STEP, axis: "time" }, 111_000, 119_000)).toEqual([2, 3]);
    expect(stepsWithin([loss], BY_STEP, 8, 9)).toBeNull();
  });
});
