import { describe, expect, it } from "vitest";
import { asText, extent, fromText, moved, scaled, visible, within } from "./stretch";

const WHOLE = { from: 0, to: 100 };

describe("a stretch of an axis", () => {
  it("is the whole of what is finite; a logarithmic axis begins at its first positive place", () => {
    expect(extent([[3, 1, NaN], [0, 7]], false)).toEqual({ from: 0, to: 7 });
    expect(extent([[3, 1, NaN], [0, 7]], true)).toEqual({ from: 1, to: 7 });
    expect(extent([[], [NaN]], false)).toBeNull();
  });

  it("is narrowed and widened around its middle or around a place", () => {
    expect(scaled({ from: 40, to: 60 }, WHOLE, 0.5, false)).toEqual({ from: 45, to: 55 });
    expect(scaled({ from: 40, to: 60 }, WHOLE, 2, false, 40)).toEqual({ from: 40, to: 80 });
    expect(scaled({ from: 10, to: 90 }, WHOLE, 2, false)).toBeNull();
  });

  it("has its middle in the logarithm where the axis is logarithmic", () => {
    const found = scaled({ from: 1, to: 10_000 }, { from: 1, to: 10_000 }, 0.5, true);
    expect(found?.from).toBeCloseTo(10);
    expect(found?.to).toBeCloseTo(1000);
  });

  it("is moved no further than there is something to see", () => {
    expect(moved({ from: 40, to: 60 }, WHOLE, 0.25, false)).toEqual({ from: 45, to: 65 });
    expect(moved({ from: 70, to: 90 }, WHOLE, 1, false)).toEqual({ from: 80, to: 100 });
    expect(moved({ from: 10, to: 30 }, WHOLE, -1, false)).toEqual({ from: 0, to: 20 });
  });

  it("is nothing when it is all, or a point", () => {
    expect(within({ from: -5, to: 200 }, WHOLE)).toBeNull();
    expect(within({ from: 5, to: 5 }, WHOLE)).toBeNull();
    expect(within({ from: 30, to: 20 }, WHOLE)).toEqual({ from: 20, to: 30 });
  });

  it("needs the neighbours of its points, also where it lies between two", () => {
    const x = [0, 10, 20, 30, 40];
    expect(visible(x, { from: 15, to: 25 })).toEqual([1, 2, 3]);
    expect(visible(x, { from: 22, to: 28 })).toEqual([2, 3]);
    expect(visible([0, 10, 5, 15], { from: 4, to: 6 })).toEqual([0, 1, 2, 3]);
  });

  it("comes back from an address, and what is none is left out", () => {
    const moment = { from: 1_700_000_000_123, to: 1_700_000_100_456 };
    expect(fromText(asText(moment))).toEqual(moment);
    expect(fromText(asText({ from: 0.1 + 0.2, to: 1 }))).toEqual({ from: 0.3, to: 1 });
    for (const text of [null, "", "1", "a~b", "5~1", "1~", "1~2~3"]) expect(fromText(text)).toBeNull();
  });
});
