import { expect, it } from "vitest";
import { valueNear } from "./cursor";

it("tells the value of the point that is nearest to the cursor", () => {
  const line = { x: [0, 10, 30], shown: [5, 6, 7] };
  expect([-3, 4, 6, 19, 21, 99].map((place) => valueNear(line, place))).toEqual([5, 5, 6, 6, 7, 7]);
  expect(valueNear({ x: [], shown: [] }, 1)).toBeUndefined();
});
