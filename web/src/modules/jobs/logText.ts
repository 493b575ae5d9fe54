/** Output of a program as a terminal would leave it: carriage returns overwrite, colours become spans. */

export interface Piece {
  text: string;
  /** CSS colour, or undefined for the default. */
  colour?: string;
  isBold: boolean;
}

const COLOURS: Record<number, string> = {
  31: "#d4380d", 32: "#389e0d", 33: "#ad6800", 34: "#1668dc", 35: "#9254de", 36: "#08979c", 90: "#8c8c8c",
  91: "#ff4d4f", 92: "#52c41a", 93: "#d48806", 94: "#4096ff", 95: "#b37feb", 96: "#13c2c2",
};
/** CSI with its parameters and letter; strings to the terminal such as links, titles and clipboard; other controls. */
const ESCAPE =
  // eslint-disable-next-line no-control-regex
  /(?:\u001b\[|\u009b)([0-9:;<=>?]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-Z\\^-~]?|[\0-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Lines after carriage returns have done their work: a progress bar is one line. */
export function foldLines(text: string): string[] {
  return text.split("\n").map((line) => {
    const parts = line.replace(/\r+$/, "").split("\r");
    return parts[parts.length - 1] ?? "";
  });
}

/** A line as coloured pieces; other escape sequences are dropped. */
export function colourPieces(line: string): Piece[] {
  const pieces: Piece[] = [];
  let colour: string | undefined;
  let isBold = false;
  let at = 0;
  const push = (text: string) => {
    if (text) pieces.push({ text, colour, isBold });
  };
  for (const match of line.matchAll(ESCAPE)) {
    push(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] !== "m") continue;
    for (const code of (match[1] || "0").split(";").map(Number)) {
      if (code === 0) [colour, isBold] = [undefined, false];
      else if (code === 1) isBold = true;
      else if (code === 39) colour = undefined;
      else if (code in COLOURS) colour = COLOURS[code];
    }
  }
  push(line.slice(at));
  return pieces;
}

/** A line without escape sequences. */
export function plainText(line: string): string {
  return line.replace(ESCAPE, "");
}
