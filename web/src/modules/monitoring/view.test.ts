import { describe, expect, it } from "vitest";
import { neighbour, toggled, viewOf } from "./view";

const view = (text: string) => viewOf(new URLSearchParams(text));

describe("how charts are drawn", () => {
  it("is plain at first", () => {
    expect(view("")).toEqual({
      filter: "", smoothing: 0, axis: "step", isLogX: false, isLogY: false, isClipped: false, closed: ["native"], stretch: null, full: null,
    });
  });

  it("is read from the address", () => {
    expect(view("metric=%5Eloss&smooth=0.5&x=tokens&logx=1&log=1&clip=1&closed=time,native&zoom=10~20&chart=loss")).toEqual({
      filter: "^loss", smoothing: 0.5, axis: "tokens", isLogX: true, isLogY: true, isClipped: true, closed: ["time", "native"], stretch: { from: 10, to: 20 }, full: "loss",
    });
  });

  it("is not broken by an address that makes no sense", () => {
    expect(view("smooth=7&x=moons")).toMatchObject({ smoothing: 0.99, axis: "step" });
    expect(view("smooth=much&zoom=9~1")).toMatchObject({ smoothing: 0, stretch: null });
    expect(view("x=time&logx=1").isLogX).toBe(false);
    expect(viewOf(new URLSearchParams("x=time"), ["step", "elapsed"]).axis).toBe("step");
  });

  it("opens and closes sections, all of them if need be", () => {
    expect(toggled(["native"], "loss")).toBe("native,loss");
    expect(toggled(["native"], "native")).toBe("none");
    expect(toggled(["none"], "time")).toBe("time");
  });

  it("goes from one metric to the next, round the ends", () => {
    const metrics = ["a", "b", "c"];
    expect([neighbour(metrics, "a", 1), neighbour(metrics, "c", 1), neighbour(metrics, "a", -1)]).toEqual(["b", "a", "c"]);
    expect(neighbour(["a"], "a", 1)).toBe("a");
  });
});
