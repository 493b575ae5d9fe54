/** What ECharts is told to draw of memory over the length of a sequence. Pure. */
import type { EChartsCoreOption } from "echarts/core";
import { number, whole } from "../../app/format";
import type { Translate } from "../../app/i18n";
import type { PlanView } from "./plan";
import { gibText, inGib } from "./words";

const FITS = "#0072B2";
const FITS_NOT = "#D55E00";
/** Of the device, or of the point that is planned: what lies far above would flatten the rest. */
const ROOM = 1.6;

export const shortTokens = (tokens: number): string => (tokens >= 1024 && tokens % 512 === 0 ? `${number(tokens / 1024)}k` : whole(tokens));

/** Names of lines are drawn in the page's language. */
export function curveOption(view: PlanView, context: number, t: Translate): EChartsCoreOption {
  const here = view.curve.find((point) => point.context === context)?.bytes ?? 0;
  const top = ROOM * Math.max(view.device_bytes, here);
  const usable = inGib(view.usable_bytes);
  const data = view.curve.map((point) => ({
    value: [point.context, inGib(point.bytes)],
    symbolSize: point.context === context ? 12 : 7,
    itemStyle: { color: point.fits ? FITS : FITS_NOT },
  }));
  const ends = view.curve.map((point) => point.context);
  const longest = view.longest_context;
  const isRight = longest !== null && longest > 16_384;
  const lines: object[] = [
    { yAxis: usable, lineStyle: { color: FITS_NOT, type: "dashed", width: 1.5 }, label: { formatter: t("planner.usable", { size: gibText(view.usable_bytes) }), position: isRight ? "insideStartTop" : "insideEndTop", fontSize: 11 } },
  ];
  if (longest !== null && longest <= Math.max(...ends) && longest >= Math.min(...ends)) {
    lines.push({ xAxis: longest, lineStyle: { color: "#8a9499", type: "solid", width: 1 }, label: { formatter: t("planner.longestIs", { n: whole(longest) }), position: "end", align: isRight ? "right" : "left", fontSize: 11 } });
  }
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 44, right: 18, top: 26, bottom: 40 },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      textStyle: { fontSize: 12 },
      formatter: (hits: { dataIndex: number }[]) => {
        const point = view.curve[hits[0]?.dataIndex ?? -1];
        return point ? `${t("planner.tokensIs", { n: whole(point.context) })}\n${gibText(point.bytes)}${point.fits ? "" : `  ${t("planner.fitsNot")}`}` : "";
      },
    },
    xAxis: {
      type: "log",
      logBase: 2,
      min: Math.min(...ends),
      max: Math.max(...ends),
      name: t("planner.context"),
      nameLocation: "middle",
      nameGap: 24,
      axisLabel: { fontSize: 11, hideOverlap: true, formatter: (value: number) => shortTokens(value) },
      splitLine: { show: false },
    },
    yAxis: { type: "value", min: 0, max: Math.ceil(inGib(top) / 10) * 10, name: "GiB", nameTextStyle: { fontSize: 11, align: "right", padding: [0, 6, 0, 0] }, axisLabel: { fontSize: 11, showMaxLabel: false, formatter: (value: number) => number(value) }, splitLine: { lineStyle: { opacity: 0.35 } } },
    series: [{ type: "line", data, clip: true, symbol: "circle", showAllSymbol: true, lineStyle: { color: FITS, width: 2 }, markLine: { silent: true, symbol: "none", data: lines } }],
  };
}
