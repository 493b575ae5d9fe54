import { describe, expect, it } from "vitest";
import { cellText, gradientViewOf } from "./gradientView";
import { against, bars, columnAt, quantile, scaleOf, shortName, type Window } from "./heat";

const WISH = { name: "auto", clipped: 0, isDiverging: false } as const;

function windowOf(metric: Window["metric"], rows: string[], columns: [number, number][], values: Window["values"]): Window {
  return {
    metric,
    by: "layer",
    combination: "max",
    rows: rows.map((name) => ({ first: name, last: name, num: 1 })),
    columns: columns.map(([first_step, last_step]) => ({ first_step, last_step, attempt: 1 })),
    values,
    first_step: columns[0]?.[0] ?? null,
    last_step: columns.at(-1)?.[1] ?? null,
    num_steps: columns.length,
  };
}

describe("scaleOf", () => {
  it("is linear where values are alike, and logarithmic where they span far", () => {
    expect(scaleOf([[1, 2, null, 3]], WISH)).toMatchObject({ min: 1, max: 3, isLog: false, isDiverging: false });
    const wide = scaleOf([[0.001, 1, 1000]], WISH);
    expect(wide).toMatchObject({ isLog: true, min: -3, max: 3 });
    expect(wide?.backward(wide.forward(20))).toBeCloseTo(20);
    expect(scaleOf([[0.001, 1, 1000]], { ...WISH, name: "linear" })).toMatchObject({ isLog: false, max: 1000 });
    expect(scaleOf([[1, 2]], { ...WISH, name: "log" })?.isLog).toBe(true);
  });

  it("puts zero at the lower end of a logarithmic scale, and stays linear where all is zero", () => {
    const scale = scaleOf([[0, 0.1, 100]], WISH);
    expect(scale?.forward(0)).toBe(scale?.min);
    expect(scaleOf([[0, 0]], { ...WISH, name: "log" })).toMatchObject({ isLog: false });
  });

  it("has zero in the middle of signed values, whichever side reaches farther", () => {
    expect(scaleOf([[-1, 4]], { ...WISH, isDiverging: true })).toMatchObject({ min: -4, max: 4, isLog: false, isDiverging: true });
    const wide = scaleOf([[-1e-4, 1e-3, -3, 900]], { ...WISH, isDiverging: true });
    expect(wide?.isLog).toBe(true);
    expect(wide?.forward(0)).toBe(0);
    expect(wide?.min).toBe(-(wide?.max ?? NaN));
    expect(wide?.backward(wide.forward(-3))).toBeCloseTo(-3);
  });

  it("has equality in the middle of ratios, and twice as far from it as half", () => {
    const scale = scaleOf([[0.5, 1, 8]], { ...WISH, isDiverging: true, isRatio: true });
    expect(scale).toMatchObject({ min: -3, max: 3, isDiverging: true });
    expect(scale?.forward(2)).toBe(-(scale?.forward(0.5) ?? NaN));
  });

  it("leaves the outer values beyond its ends, and says so", () => {
    const values = Array.from({ length: 201 }, (_, index) => index);
    expect(scaleOf([values], { ...WISH, name: "linear", clipped: 0.01 })).toMatchObject({ min: 2, max: 198, isClipped: true });
    expect(scaleOf([values], { ...WISH, name: "linear" })).toMatchObject({ min: 0, max: 200, isClipped: false });
  });

  it("has a width where all values are one, and none where there are none", () => {
    const scale = scaleOf([[5, 5]], WISH);
    expect((scale?.max ?? 0) - (scale?.min ?? 0)).toBeGreaterThan(0);
    expect(scaleOf([[null]], WISH)).toBeNull();
    expect(scaleOf([], WISH)).toBeNull();
  });
});

describe("two runs", () => {
  it("are compared by the names of rows and the steps of columns", () => {
    const one = windowOf("norm", ["0", "1", "2"], [[1, 1], [100, 100], [200, 200]], [[2, 4, 6], [1, 1, null], [1, 1, 1]]);
    const other = windowOf("norm", ["1", "0"], [[1, 1], [50, 100]], [[4, 0], [1, 8]]);
    expect(against(one, other)).toEqual([[2, 0.5, null], [0.25, null, null], [null, null, null]]);
  });

  it("are subtracted where a sign means something", () => {
    const one = windowOf("mean", ["0"], [[1, 1]], [[-2]]);
    expect(against(one, windowOf("mean", ["0"], [[1, 1]], [[3]]))).toEqual([[-5]]);
  });

  it("meet in the column that holds the last step, or overlaps", () => {
    const columns = [{ first_step: 1, last_step: 9, attempt: 1 }, { first_step: 20, last_step: 30, attempt: 1 }];
    expect(columnAt(columns, { first_step: 5, last_step: 25, attempt: 1 })).toBe(1);
    expect(columnAt(columns, { first_step: 5, last_step: 15, attempt: 1 })).toBe(0);
    expect(columnAt(columns, { first_step: 10, last_step: 15, attempt: 1 })).toBe(-1);
  });
});

describe("bars", () => {
  it("go from the most negative to the most positive, with what is nothing in the middle", () => {
    const found = bars({ exponents: [-127, -126, -3, -2, -1], negative: [1, 0, 5, 0, 2], positive: [2, 0, 0, 7, 0] });
    expect(found.map(({ exponent, sign, count }) => [exponent, sign, count])).toEqual([
      [-1, -1, 2], [-2, -1, 0], [-3, -1, 5], [null, 1, 3], [-3, 1, 0], [-2, 1, 7], [-1, 1, 0],
    ]);
    expect(bars({ exponents: [], negative: [], positive: [] })).toEqual([]);
  });
});

describe("names and addresses", () => {
  it("are short where all parameters begin alike", () => {
    expect(shortName("model.layers.3.self_attn.q_proj.weight")).toBe("3.self_attn.q_proj");
    expect(shortName("base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight")).toBe("0.mlp.up_proj.lora_A.default");
    expect(shortName("model.embed_tokens.weight")).toBe("embed_tokens");
    expect(shortName("transformer.h.11.attn.c_attn.bias")).toBe("11.attn.c_attn.bias");
    expect(shortName("critic.0")).toBe("critic.0");
  });

  it("say what is shown, and take nothing that is not offered", () => {
    expect(gradientViewOf(new URLSearchParams())).toEqual({ metric: "norm", by: "layer", scale: "auto", clip: 1, stretch: null, cell: null, other: null, mode: "beside" });
    const text = new URLSearchParams({ stat: "p99", by: "tensor", scale: "log", range: "5", steps: "100~200", cell: cellText("a@b", 7), with: "12", mode: "ratio" });
    expect(gradientViewOf(text)).toEqual({
      metric: "p99", by: "tensor", scale: "log", clip: 5, stretch: { from: 100, to: 200 }, cell: { name: "a@b", step: 7 }, other: 12, mode: "ratio",
    });
    expect(gradientViewOf(new URLSearchParams({ stat: "median", by: "x", range: "7", with: "-1", cell: "x" }))).toEqual(gradientViewOf(new URLSearchParams()));
  });

  it("quantiles lie between the values", () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([], 0.5)).toBeNaN();
  });
});
