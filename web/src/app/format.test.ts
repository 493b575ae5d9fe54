import { describe, expect, it } from "vitest";
import { bytes, duration, number, percent, points, yaml } from "./format";

describe("format", () => {
  it("gives four significant digits and keeps names of what is not finite", () => {
    expect(number(0.123456)).toBe("0.1235");
    expect(number(1e-5)).toBe("1e-5");
    expect([1e6, 4.0823e6, -1.25e9, 123_456, 3e15].map((value) => number(value))).toEqual(["1M", "4.082M", "-1.25G", "123,500", "3e15"]);
    expect(number("NaN")).toBe("NaN");
    expect(bytes(7_920_087)).toBe("7.92 MB");
  });

  it("gives lengths of time in two units", () => {
    expect([duration(42.4), duration(200), duration(18180)]).toEqual(["42 s", "3 min 20 s", "5 h 3 min"]);
  });

  it("gives differences their sign, and zero none", () => {
    expect([points(0.0312), points(-0.2), points(-0.0001)]).toEqual(["+3.1", "\u221220.0", "0.0"]);
    expect(percent(0.1234)).toBe("12.3 %");
  });

  it("writes YAML that reads back as the same data", () => {
    expect(yaml({ a: { b: [1, "x y"], c: null }, d: "true", e: [{ f: 1, g: 2 }] }).trim()).toBe(
      'a:\n  b:\n    - 1\n    - x y\n  c: null\nd: "true"\ne:\n  - f: 1\n    g: 2',
    );
  });
});
