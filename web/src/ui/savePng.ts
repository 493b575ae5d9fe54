/** A chart as a picture in a file, with its title and the names of its lines. */
import { LegendComponent, TitleComponent } from "echarts/components";
import { init, use as register } from "echarts/core";
import { chartOptions, type Band, type ChartLine, type ChartLook } from "./chartOptions";

register([TitleComponent, LegendComponent]);

const SIZE = { width: 1000, height: 560 };
const TOP = 40;
const LEGEND = 28;
const BACKGROUND = { light: "#ffffff", dark: "#101416" };

/** A name that every file system takes. */
export function fileName(title: string): string {
  return title.replace(/[^A-Za-z0-9._\u4e00-\u9fff-]+/g, "-").replace(/^-+|-+$/g, "");
}

/** @param title what stands above the chart; @param name of the file, without its ending */
export function savePng(title: string, name: string, lines: ChartLine[], bands: Band[], look: ChartLook): void {
  const chart = init(document.createElement("div"), look.isDark ? "dark" : undefined, { renderer: "canvas", ...SIZE });
  const names = [...new Set(lines.map((line) => line.name))];
  const options = chartOptions(lines, bands, look);
  const hasLegend = names.length > 1;
  chart.setOption({
    ...options,
    title: { text: title, left: 16, top: 10, textStyle: { fontSize: 16 } },
    legend: { show: hasLegend, type: "scroll", data: names, bottom: 6, left: 16, right: 16 },
    grid: { ...options.grid, left: 16, right: 24, top: TOP + 10, bottom: hasLegend ? LEGEND + 10 : 12 },
  });
  const link = document.createElement("a");
  link.href = chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: look.isDark ? BACKGROUND.dark : BACKGROUND.light });
  link.download = `${fileName(name)}.png`;
  link.click();
  chart.dispose();
}
