import { describe, expect, it } from "vitest";
import { heatmapOptions, pixels, type ColourScale } from "./heatmapOptions";

const SCALE: ColourScale = { forward: Math.log10, backward: (place) => 10 ** place, min: 0, max: 2, isLog: true, isDiverging: false, isClipped: true };

describe("a heatmap", () => {
  it("paints a cell by its place on the scale, leaves out what is not known, and stays within the ends", () => {
    const found = pixels([[1, 10, null], [100, 1e9, 1e-9]], 3, SCALE, ["#000000", "#ff0080"]);
    const at = (index: number) => [...found.slice(4 * index, 4 * index + 4)];
    expect(at(0)).toEqual([0, 0, 0, 255]);
    expect(at(1)[0]).toBeGreaterThan(126);
    expect(at(1)[0]).toBeLessThan(130);
    expect(at(2)).toEqual([0, 0, 0, 0]);
    expect([at(3), at(4), at(5)]).toEqual([[255, 0, 128, 255], [255, 0, 128, 255], [0, 0, 0, 255]]);
  });

  it("says at the ends of its scale which values they stand for, and that there are more", () => {
    const heat = { rows: ["0"], columns: ["1"], cells: [[1]], scale: SCALE, picked: null };
    const legend = (scale: ColourScale) => (heatmapOptions({ ...heat, scale }, false) as { visualMap: { text: string[]; inRange: { color: string[] } } }).visualMap;
    expect(legend(SCALE).text).toEqual(["\u2265100", "\u22641"]);
    expect(legend({ ...SCALE, isClipped: false }).text).toEqual(["100", "1"]);
    expect(legend({ ...SCALE, isDiverging: true }).inRange.color).not.toEqual(legend(SCALE).inRange.color);
  });
});
