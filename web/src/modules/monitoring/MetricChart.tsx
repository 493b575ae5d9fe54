import { memo, useMemo } from "react";
import { number } from "../../app/format";
import { useLanguage, useT } from "../../app/i18n";
import { explained } from "../../app/i18n/metrics";
import { useDark } from "../../app/theme";
import { Chart } from "../../ui/Chart";
import { axisEnds, numOutside, shownLines, type Band, type ChartLine } from "../../ui/chartOptions";
import { ChartTools } from "../../ui/ChartTools";
import { runColour } from "../../ui/colours";
import { savePng } from "../../ui/savePng";
import type { Stretch } from "../../ui/stretch";
import { pointsOf, type Scale } from "./axis";
import { areSame, figures, smoothed, type Line } from "./series";
import { useDetail } from "./useDetail";
import type { ChartView } from "./view";

const NOTE_HEIGHT = 20;

export type Look = Pick<ChartView, "smoothing" | "isLogX" | "isLogY" | "isClipped" | "stretch">;

export interface MetricProps {
  metric: string;
  lines: Line[];
  jobId: number;
  jobName: string;
  look: Look;
  scale: Scale;
  zoom: (stretch: Stretch | null) => void;
  height: number;
  /** Shows the metric on the whole screen; absent where it does already. */
  open?: (metric: string) => void;
}

/** One metric of one run: its figures, its curve, its attempts. */
export const MetricChart = memo(function MetricChart({ metric, lines, jobId, jobName, look, scale, zoom, height, open }: MetricProps) {
  const t = useT();
  const language = useLanguage();
  const isDark = useDark();
  const { smoothing, isLogX, isLogY, isClipped, stretch } = look;
  const isTime = scale.axis === "time";
  const found = useMemo(() => figures(lines), [lines]);
  const detailed = useDetail(jobId, metric, lines, scale, stretch);
  const newest = lines.at(-1)?.attempt;
  const numAttempts = new Set(lines.map((line) => line.attempt)).size;
  const numWriters = new Set(lines.map((line) => line.writer)).size;
  const drawn = useMemo(
    () =>
      detailed.map((line): ChartLine => {
        const origin = [...(numAttempts > 1 ? [t("run.attempt", { n: line.attempt })] : []), ...(numWriters > 1 ? [line.writer] : [])];
        const { x, values } = pointsOf(line, scale);
        return {
          name: origin.length > 0 ? `${metric} (${origin.join(", ")})` : metric,
          x,
          raw: values,
          shown: smoothed(values, smoothing),
          colour: runColour(jobId),
          isOld: line.attempt !== newest,
        };
      }),
    [detailed, metric, smoothing, scale, jobId, newest, numAttempts, numWriters, t],
  );
  const bands = useMemo(() => attemptBands(lines, drawn, (n) => t("run.attempt", { n })), [lines, drawn, t]);
  const outside = useMemo(() => {
    if (!isClipped) return 0;
    const shown = shownLines(drawn, { stretch, isLogX });
    return numOutside(shown, axisEnds(shown, { isLog: isLogY, isClipped }));
  }, [drawn, isClipped, isLogX, isLogY, stretch]);
  const numNotes = (found.numNonFinite > 0 ? 1 : 0) + (isClipped ? 1 : 0);
  const text = `${t("charts.last")} ${number(found.last)} · ${t("charts.min")} ${number(found.min)} · ${t("charts.max")} ${number(found.max)}`;
  const save = () =>
    savePng(`${metric} · ${jobName} #${jobId}`, `${jobName}-${jobId}-${metric}`, drawn, bands, { isTime, isLog: isLogY, isLogX, isClipped, isDark, stretch });
  return (
    <>
      <div className="chart-title">
        <b title={explained(metric, language)}>{metric}</b>
        <span className="figures" title={text}>{text}</span>
        <ChartTools metric={metric} savePng={save} csv={csvOf(jobId, metric)} {...(open && { open: () => open(metric) })} />
      </div>
      {found.numNonFinite > 0 && <div className="chart-warning">{t("charts.nonFinite", { n: found.numNonFinite })}</div>}
      {isClipped && <div className="chart-note quiet">{t("charts.outside", { n: outside })}</div>}
      <Chart
        lines={drawn}
        bands={bands}
        isTime={isTime}
        isLog={isLogY}
        isLogX={isLogX}
        isClipped={isClipped}
        stretch={stretch}
        zoom={zoom}
        group={`job-${jobId}`}
        height={height - NOTE_HEIGHT * numNotes}
        testId={open ? `chart-${metric}` : "full-chart"}
        label={`${metric}: ${text}`}
      />
    </>
  );
}, isSame);

function csvOf(jobId: number, metric: string): string {
  return `/api/jobs/${jobId}/series.csv?${new URLSearchParams({ names: metric }).toString()}`;
}

function isSame(before: MetricProps, after: MetricProps): boolean {
  return (
    before.metric === after.metric &&
    before.jobName === after.jobName &&
    before.look === after.look &&
    before.scale === after.scale &&
    before.zoom === after.zoom &&
    before.height === after.height &&
    before.open === after.open &&
    areSame(before.lines, after.lines)
  );
}

/** Where on the axis each attempt wrote; nothing while there is one only. */
function attemptBands(lines: Line[], drawn: ChartLine[], name: (attempt: number) => string): Band[] {
  const found = new Map<number, Band>();
  for (const [index, { attempt }] of lines.entries()) {
    const x = drawn[index]?.x ?? [];
    const [from, to] = [x[0], x.at(-1)];
    if (from === undefined || to === undefined) continue;
    const before = found.get(attempt);
    found.set(attempt, { name: name(attempt), from: Math.min(from, before?.from ?? from), to: Math.max(to, before?.to ?? to) });
  }
  return found.size > 1 ? [...found.values()] : [];
}
