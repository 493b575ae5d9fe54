import { LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import { GridComponent, MarkLineComponent, ParallelComponent, TooltipComponent } from "echarts/components";
import { init, use as register, type EChartsCoreOption, type EChartsType } from "echarts/core";
import { LabelLayout } from "echarts/features";
import { CanvasRenderer } from "echarts/renderers";
import { useEffect, useRef } from "react";
import { useDark } from "../app/theme";

register([LineChart, ScatterChart, ParallelChart, GridComponent, MarkLineComponent, ParallelComponent, TooltipComponent, LabelLayout, CanvasRenderer]);

interface Props {
  option: EChartsCoreOption;
  height: number;
  numPoints: number;
  testId: string;
  label: string;
}

/** A drawing that stays as it is, marked ranges included, until what it shows changes. */
export function Plot({ option, height, numPoints, testId, label }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const newest = useRef(option);
  const isDark = useDark();
  // Functions are left out of the text: what they say follows from the data.
  const content = JSON.stringify(option);
  useEffect(() => {
    newest.current = option;
  });
  useEffect(() => {
    if (!box.current) return;
    const made = init(box.current, isDark ? "dark" : undefined, { renderer: "canvas" });
    chart.current = made;
    const sizes = new ResizeObserver(() => made.resize());
    sizes.observe(box.current);
    return () => {
      sizes.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, [isDark]);
  useEffect(() => {
    chart.current?.setOption(newest.current, { notMerge: true });
  }, [content, isDark]);
  return <div ref={box} role="img" aria-label={label} data-testid={testId} data-points={numPoints} style={{ height }} />;
}
