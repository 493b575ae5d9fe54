import { describe, expect, it } from "vitest";
import { change, quoted, whole, withCondition } from "./query";

describe("a query", () => {
  it("takes conditions, with quotes around spaces", () => {
    expect(withCondition("sums", { field: "name", operator: "~", value: "high rate" })).toBe('sums name~"high rate"');
    expect(withCondition("", { field: "loss", operator: "<", value: "0.5" })).toBe("loss<0.5");
    expect(quoted('a"b')).toBe("ab");
  });

  it("joins words, states and the archive", () => {
    expect(whole(" a ", ["failed", "lost"], true)).toBe("a state:failed,lost archived:yes");
    expect(whole("", [], false)).toBe("");
  });
});

describe("a difference to the baseline", () => {
  it("is in per cent, and nothing where there is no number", () => {
    expect(change(1.5, 1)).toBe(50);
    expect(change(-1, -2)).toBe(50);
    expect([change("NaN", 1), change(1, undefined), change(1, 0)]).toEqual([null, null, null]);
  });
});
