import { Card } from "antd";
import { memo, useMemo } from "react";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { Chart } from "../../ui/Chart";
import type { Band, ChartLine } from "../../ui/chartOptions";
import { runColour } from "../../ui/colours";
import { figures, smoothed, type Line } from "./series";

const HEIGHT = 180;
const WARNING_HEIGHT = 20;

interface Props {
  metric: string;
  lines: Line[];
  jobId: number;
  smoothing: number;
  isLog: boolean;
  isTime: boolean;
}

/** One metric of one run: its figures, its curve, its attempts. Drawn again only when one of its lines grew. */
export const MetricCard = memo(Metric, isSame);

function Metric({ metric, lines, jobId, smoothing, isLog, isTime }: Props) {
  const t = useT();
  const found = useMemo(() => figures(lines), [lines]);
  const newest = lines.at(-1)?.attempt;
  const numWriters = new Set(lines.map((line) => line.writer)).size;
  const drawn = useMemo(
    () =>
      lines.map((line): ChartLine => {
        const origin = [
          ...(newest !== lines[0]?.attempt ? [t("run.attempt", { n: line.attempt })] : []),
          ...(numWriters > 1 ? [line.writer] : []),
        ];
        return {
          name: origin.length > 0 ? `${metric} (${origin.join(", ")})` : metric,
          x: abscissae(line, isTime),
          raw: line.values,
          shown: smoothed(line.values, smoothing),
          colour: runColour(jobId),
          isOld: line.attempt !== newest,
        };
      }),
    [lines, metric, smoothing, isTime, jobId, newest, numWriters, t],
  );
  const bands = useMemo(() => attemptBands(lines, isTime, (n) => t("run.attempt", { n })), [lines, isTime, t]);
  const hasWarning = found.numNonFinite > 0;
  const text = `${t("charts.last")} ${number(found.last)} · ${t("charts.min")} ${number(found.min)} · ${t("charts.max")} ${number(found.max)}`;
  return (
    <Card size="small" styles={{ body: { padding: "8px 10px 4px" } }}>
      <div className="chart-title">
        <b title={metric}>{metric}</b>
        <span className="figures">{text}</span>
      </div>
      {hasWarning && <div className="chart-warning">{t("charts.nonFinite", { n: found.numNonFinite })}</div>}
      <Chart lines={drawn} bands={bands} isTime={isTime} isLog={isLog} group={`job-${jobId}`} height={hasWarning ? HEIGHT - WARNING_HEIGHT : HEIGHT} testId={`chart-${metric}`} label={`${metric}: ${text}`} />
    </Card>
  );
}

function isSame(before: Props, after: Props): boolean {
  return (
    before.metric === after.metric &&
    before.smoothing === after.smoothing &&
    before.isLog === after.isLog &&
    before.isTime === after.isTime &&
    before.lines.length === after.lines.length &&
    before.lines.every((line, index) => line === after.lines[index])
  );
}

function abscissae(line: Line, isTime: boolean): number[] {
  return isTime ? line.times.map((time) => 1000 * time) : line.steps;
}

/** Where on the axis each attempt wrote; nothing while there is one only. */
function attemptBands(lines: Line[], isTime: boolean, name: (attempt: number) => string): Band[] {
  const found = new Map<number, Band>();
  for (const line of lines) {
    const x = abscissae(line, isTime);
    const from = x[0];
    const to = x.at(-1);
    if (from === undefined || to === undefined) continue;
    const before = found.get(line.attempt);
    found.set(line.attempt, {
      name: name(line.attempt),
      from: Math.min(from, before?.from ?? from),
      to: Math.max(to, before?.to ?? to),
    });
  }
  return found.size > 1 ? [...found.values()] : [];
}
