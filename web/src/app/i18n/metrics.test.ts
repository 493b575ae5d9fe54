import { describe, expect, it } from "vitest";
import { explained } from "./metrics";

describe("explained", () => {
  it("says what a metric is in the language of the page", () => {
    expect(explained("seconds_backward", "en")).toBe("seconds_backward: Seconds of the backward pass");
    expect(explained("seconds_backward", "zh")).toBe("seconds_backward: 反向计算的秒数");
    expect(explained("seconds_syncing_weights", "en")).toBe("seconds_syncing_weights: Seconds in which new weights go to where completions are drawn");
  });

  it("leaves a metric that nobody explained as it is", () => {
    expect(explained("native/x", "en")).toBe("native/x");
    expect(explained("constructor", "en")).toBe("constructor");
  });
});
