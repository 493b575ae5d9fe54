import { describe, expect, it } from "vitest";
import { colourPieces, foldLines } from "./logText";

describe("log text", () => {
  it("shows a progress bar as its last state", () => {
    expect(foldLines("a\r 10%\r 20%\nend\r\n")).toEqual([" 20%", "end", ""]);
  });

  it("turns colours into pieces and drops other escapes", () => {
    expect(colourPieces("\u001b[31mred\u001b[0m \u001b[2Kplain")).toEqual([
      { text: "red", colour: "#d4380d", isBold: false },
      { text: " ", colour: undefined, isBold: false },
      { text: "plain", colour: undefined, isBold: false },
    ]);
  });

  it("leaves markup as text", () => {
    expect(colourPieces("<b>x</b>")).toEqual([{ text: "<b>x</b>", colour: undefined, isBold: false }]);
  });
});
