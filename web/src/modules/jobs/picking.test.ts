import { expect, test } from "vitest";
import { picking, readView } from "./useView";

const newest = (picked: string) => readView(new URLSearchParams({ pick: picked }));

test("a pick is added to those made since the table was drawn", () => {
  expect(picking([2], true)(newest("1"))).toEqual({ picked: [1, 2] });
});

test("a pick taken back leaves the others", () => {
  expect(picking([1], false)(newest("1,2,3"))).toEqual({ picked: [2, 3] });
});

test("rows picked at once are picked once", () => {
  expect(picking([1, 2, 3], true)(newest("2"))).toEqual({ picked: [2, 1, 3] });
});
