import { describe, expect, it } from "vitest";
import { beside, columnOf, pageQuery, pathOf, rolloutViewOf, type Row } from "./rolloutView";

const view = (text: string) => rolloutViewOf(new URLSearchParams(text));
const row = (index: number) => ({ index }) as Row;

describe("the address", () => {
  it("says what is shown", () => {
    const found = view("step=12&at=3&q=x&part=exact&rmin=-0.5&lmax=9&cut=yes&sort=reward&down=1&colour=kl&lane=diversity&sign=repetition&time=1");
    expect(found).toMatchObject({ step: 12, index: 3, text: "x", part: "exact", minReward: -0.5, maxReward: null, maxLength: 9, isTruncated: true });
    expect(found).toMatchObject({ sort: "reward", isDescending: true, colouring: "kl", lane: "diversity", sign: "repetition", isOverTime: true });
  });
  it("with nonsense is as if it said nothing", () => {
    expect(view("step=-1&at=x&rmin=&rmax=1e999&lmin=1.5&cut=2&sort=y&colour=z&lane=w")).toEqual(view(""));
  });
  it("asks the server only for what is set", () => {
    const set = Object.fromEntries(Object.entries(pageQuery(view("step=0&rmin=0"))).filter(([, value]) => value !== undefined));
    expect(set).toEqual({ step: 0, min_reward: 0, sort: "index", is_descending: false });
  });
});

describe("moving", () => {
  const rows = [row(4), row(2), row(7)];
  it("goes along the list as it is sorted, and stops at its ends", () => {
    expect(beside(rows, 2, 1)).toEqual(row(7));
    expect(beside(rows, 7, 1)).toEqual(row(7));
    expect(beside(rows, 4, -1)).toEqual(row(4));
  });
  it("begins at the top", () => {
    expect(beside(rows, 99, 1)).toEqual(row(4));
    expect(beside([], null, 1)).toBeUndefined();
  });
});

describe("columns", () => {
  const history = { first_steps: [1, 11, 31], last_steps: [10, 20, 40] };
  it.each([[1, 0], [20, 1], [22, 1], [29, 2], [99, 2]])("step %d is in column %d", (step, column) => {
    expect(columnOf(history, step)).toBe(column);
  });
  it("are none where nothing was recorded", () => {
    expect(columnOf({ first_steps: [], last_steps: [] }, 1)).toBe(-1);
  });
});

describe("a line", () => {
  it("spans its box and is parted where nothing is known", () => {
    expect(pathOf([0, 1, null, 0.5])).toEqual({ path: "M0.125 1h0.0625L0.375 0M0.875 0.5h0.0625", low: 0, high: 1 });
  });
  it("of one value lies in the middle", () => {
    expect(pathOf([3])?.path).toBe("M0.5 0.5h0.25");
    expect(pathOf([null])).toBeNull();
  });
});
