import { BarChart } from "echarts/charts";
import { use as register } from "echarts/core";
import { useMemo } from "react";
import { useT } from "../../app/i18n";
import { Plot } from "../../ui/Plot";
import { bars, type Histogram } from "./heat";
import { histogramOption } from "./histogramOption";

register([BarChart]);

/** How many values lie between two powers of two, on either side of zero. */
export function HistogramPlot({ histogram, height }: { histogram: Histogram; height: number }) {
  const t = useT();
  const found = useMemo(() => bars(histogram), [histogram]);
  const option = useMemo(() => histogramOption(found, t("gradients.nearZero")), [found, t]);
  return <Plot option={option} height={height} numPoints={found.length} testId="gradient-histogram" label={t("gradients.histogram", { step: histogram.step })} />;
}
