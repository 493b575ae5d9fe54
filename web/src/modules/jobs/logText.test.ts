import { describe, expect, it } from "vitest";
import { colourPieces, foldLines, plainText } from "./logText";

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

  it("drops what would speak to a terminal: titles, links, the clipboard, controls", () => {
    const line = "a\u001b]0;title\u0007b\u001b]8;;javascript:x\u001b\\c\u001b]8;;\u001b\\d\u001b]52;c;eA==\u0007e\u001bP$q\u001b\\f";
    expect(plainText(line)).toBe("abcdef");
    expect(plainText("\u009b31mg\u001b[?25lh\u0007\u0008i\u001b(Bj\u001b")).toBe("ghij");
    expect(plainText("tab\tkept, 中文 kept")).toBe("tab\tkept, 中文 kept");
  });

  it("leaves markup as text", () => {
    expect(colourPieces("<b>x</b>")).toEqual([{ text: "<b>x</b>", colour: undefined, isBold: false }]);
  });
});
