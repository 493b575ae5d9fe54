import { describe, expect, it } from "vitest";
import { en } from "./en";
import { translator } from "./index";
import { zh } from "./zh";

describe("languages", () => {
  it("have the same keys and different texts", () => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
    const same = Object.entries(en).filter(([key, text]) => zh[key as keyof typeof en] === text);
    expect(same).toEqual([]);
  });

  it("use the same placeholders", () => {
    const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
    for (const [key, text] of Object.entries(en)) expect(names(zh[key as keyof typeof en])).toEqual(names(text));
  });

  it("fill placeholders in", () => {
    expect(translator("en")("progress.of", { step: 1, total: 2 })).toBe("step 1 of 2");
  });
});
