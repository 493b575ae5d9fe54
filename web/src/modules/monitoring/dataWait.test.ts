import { describe, expect, it } from "vitest";
import { dataWait } from "./dataWait";
import { lineKey, type Line, type Lines } from "./series";

function metrics(...given: [name: string, attempt: number, values: number[]][]): Lines {
  return new Map(
    given.map(([name, attempt, values]): [string, Line] => [
      lineKey(name, attempt, "rank0"),
      { name, attempt, writer: "rank0", steps: values.map((_, at) => at + 1), times: values, values, isThinned: false },
    ]),
  );
}

describe("the wait for data", () => {
  it("is a share of the newest twenty steps, the first of all left out", () => {
    const waited = [100, ...Array<number>(20).fill(9), ...Array<number>(20).fill(1)];
    const found = dataWait(metrics(["seconds_data", 1, waited], ["seconds_per_step", 1, waited.map(() => 4)]), 1);
    expect(found).toEqual({ share: 0.25, numSteps: 20 });
    expect(dataWait(metrics(["seconds_data", 1, [50, 1]], ["seconds_per_step", 1, [60, 4]]), 1)).toEqual({ share: 0.25, numSteps: 1 });
  });

  it("is that of the attempt, and of steps whose time is known", () => {
    const lines = metrics(["seconds_data", 1, [3, 3]], ["seconds_per_step", 1, [4, 4]], ["seconds_data", 2, [1, 1, 2, NaN]], ["seconds_per_step", 2, [4, 4, 4, 4]]);
    expect(dataWait(lines, 2)).toEqual({ share: 3 / 8, numSteps: 2 });
  });

  it("is not known where the run does not say", () => {
    expect(dataWait(metrics(["loss", 1, [1, 2]]), 1)).toBeNull();
    expect(dataWait(metrics(["seconds_data", 1, [1]], ["seconds_per_step", 1, [2]]), 1)).toBeNull();
  });
});
