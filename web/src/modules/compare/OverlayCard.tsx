import { Card } from "antd";
import { memo, useMemo, useState } from "react";
import { number } from "../../app/format";
import { useT, type Translate } from "../../app/i18n";
import { Chart } from "../../ui/Chart";
import { axisEnds, type Band, type ChartLine } from "../../ui/chartOptions";
import { runColour } from "../../ui/colours";
import { RunDot } from "../../ui/RunDot";
import { figures, smoothed, type Line } from "../monitoring/series";
import type { RunLines, Span } from "./logic";

const HEIGHT = 220;
/** What the height in styles.css leaves room for; a longer list scrolls, also by keyboard. */
const ROWS_IN_VIEW = 5;
const GROUP = "compare";
const NO_BANDS: Band[] = [];

interface Props {
  metric: string;
  runs: RunLines[];
  clock: Span;
  isTime: boolean;
  isLog: boolean;
  smoothing: number;
}

/** One metric of all runs. Drawn again only when one of its lines grew. */
export const OverlayCard = memo(Overlay, isSame);

function Overlay({ metric, runs, clock, isTime, isLog, smoothing }: Props) {
  const t = useT();
  const [pointed, setPointed] = useState<number | null>(null);
  const drawn = useMemo(
    () => runs.map((run) => ({ jobId: run.jobId, lines: runLines(run, isTime ? clock : null, smoothing, t) })),
    [runs, clock, isTime, smoothing, t],
  );
  const lines = useMemo(() => drawn.flatMap((run) => (pointed === null || pointed === run.jobId ? run.lines : run.lines.map(paler))), [drawn, pointed]);
  // The chart merges its options: ends that it was given once for a constant would stay when the lines begin to differ.
  const ends = isLog ? "" : `${axisEnds(lines).min ?? ""}`;
  const numNonFinite = figures(runs.flatMap((run) => run.lines)).numNonFinite;
  return (
    <Card size="small" styles={{ body: { padding: "8px 10px 4px" } }}>
      <div className="chart-title"><b title={metric}>{metric}</b></div>
      {numNonFinite > 0 && <div className="chart-warning">{t("charts.nonFinite", { n: numNonFinite })}</div>}
      <Chart key={ends} lines={lines} bands={NO_BANDS} isTime={false} isLog={isLog} group={GROUP} height={HEIGHT} testId={`compare-chart-${metric}`} label={t("compare.chartOf", { metric, n: runs.length })} />
      <Figures metric={metric} runs={runs} point={setPointed} />
    </Card>
  );
}

const paler = (line: ChartLine): ChartLine => ({ ...line, isOld: true });

/** Last, least and greatest value of each run; the run that is pointed at stands out in the chart. */
function Figures({ metric, runs, point }: { metric: string; runs: RunLines[]; point: (jobId: number | null) => void }) {
  const t = useT();
  return (
    <div className="compare-figures" role="region" aria-label={t("compare.figures", { metric })} tabIndex={runs.length > ROWS_IN_VIEW ? 0 : undefined}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("compare.run")}</th>
            <th scope="col">{t("charts.last")}</th>
            <th scope="col">{t("charts.min")}</th>
            <th scope="col">{t("charts.max")}</th>
          </tr>
        </thead>
        <tbody onMouseLeave={() => point(null)}>
          {runs.map((run) => {
            const { last, min, max } = figures(run.lines);
            return (
              <tr key={run.jobId} onMouseEnter={() => point(run.jobId)}>
                <th scope="row" title={run.name}><RunDot jobId={run.jobId} /> {run.name}</th>
                <td>{number(last)}</td>
                <td>{number(min)}</td>
                <td>{number(max)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** A run's attempts in their order, the earlier ones paler, as on the run's own page. */
function runLines(run: RunLines, clock: Span | null, smoothing: number, t: Translate): ChartLine[] {
  const newest = run.lines.at(-1)?.attempt;
  const numWriters = new Set(run.lines.map((line) => line.writer)).size;
  return run.lines.map((line) => {
    const origin = [...(newest !== run.lines[0]?.attempt ? [t("run.attempt", { n: line.attempt })] : []), ...(numWriters > 1 ? [line.writer] : [])];
    return {
      name: origin.length > 0 ? `${run.name} (${origin.join(", ")})` : run.name,
      x: clock ? elapsed(line, run.jobId, clock) : line.steps,
      raw: line.values,
      shown: smoothed(line.values, smoothing),
      colour: runColour(run.jobId),
      isOld: line.attempt !== newest,
    };
  });
}

/** Fewer than the clock has: the axis writes its ends out in full. */
const DIGITS = 5;

function elapsed(line: Line, jobId: number, { starts, unit }: Span): number[] {
  const start = starts.get(jobId) ?? line.times[0] ?? 0;
  return line.times.map((time) => Number(((time - start) / unit.seconds).toPrecision(DIGITS)));
}

function isSame(before: Props, after: Props): boolean {
  return (
    before.metric === after.metric &&
    before.smoothing === after.smoothing &&
    before.isLog === after.isLog &&
    before.isTime === after.isTime &&
    (!after.isTime || before.clock.unit.name === after.clock.unit.name) &&
    before.runs.length === after.runs.length &&
    before.runs.every((run, index) => isSameRun(run, after.runs[index]))
  );
}

function isSameRun(before: RunLines, after: RunLines | undefined): boolean {
  return (
    before.jobId === after?.jobId &&
    before.name === after.name &&
    before.lines.length === after.lines.length &&
    before.lines.every((line, index) => line === after.lines[index])
  );
}
