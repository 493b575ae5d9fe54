import { Card } from "antd";
import { memo, useMemo, useState } from "react";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { useDark } from "../../app/theme";
import { Chart } from "../../ui/Chart";
import type { Band, ChartLine } from "../../ui/chartOptions";
import { ChartTools } from "../../ui/ChartTools";
import { runColour } from "../../ui/colours";
import { savePng } from "../../ui/savePng";
import type { Stretch } from "../../ui/stretch";
import { useInView } from "../../ui/useInView";
import { areSame, figures } from "../monitoring/series";
import type { ChartView } from "../monitoring/view";
import { inGroups, type Group } from "./groups";
import type { RunLines } from "./logic";
import { groupLine, runLines, type Scales } from "./overlay";

const HEIGHT = 220;
/** What the height in styles.css leaves room for; a longer list scrolls, also by keyboard. */
const ROWS_IN_VIEW = 5;
const GROUP = "compare";
const NO_BANDS: Band[] = [];

export interface OverlayProps {
  metric: string;
  runs: RunLines[];
  /** One line for each of these instead of one for each run. */
  groups: Group[] | null;
  scales: Scales;
  look: Pick<ChartView, "smoothing" | "isLogX" | "isLogY" | "isClipped" | "stretch">;
  zoom: (stretch: Stretch | null) => void;
  /** Shows the metric on the whole screen; absent where it does already. */
  open?: (metric: string) => void;
}

/** One metric of all runs. Out of view it keeps what it shows; drawn again only when one of its lines grew. */
export function OverlayCard(props: OverlayProps) {
  const [view, isInView] = useInView();
  const [shown, setShown] = useState<OverlayProps | null>(null);
  if (isInView && (!shown || !isSame(shown, props))) setShown(props);
  return (
    <Card ref={view} size="small" className="chart-card" styles={{ body: { padding: "8px 10px 4px" } }}>
      {shown ? <Overlay {...shown} height={HEIGHT} /> : <div data-testid={`compare-chart-${props.metric}`} style={{ height: HEIGHT }}>{props.metric}</div>}
    </Card>
  );
}

/** The lines of a metric and their figures. */
export const Overlay = memo(function Overlay({ metric, runs, groups, scales, look, zoom, open, height }: OverlayProps & { height: number }) {
  const t = useT();
  const isDark = useDark();
  const [pointed, setPointed] = useState<string | null>(null);
  const rows = useMemo((): Row[] => {
    const { smoothing } = look;
    if (!groups) return runs.map((run) => ({ name: run.name, colour: runColour(run.jobId), runs: [run], lines: runLines(run, scales, smoothing, t) }));
    return inGroups(runs, groups).map((one) => ({ name: one.group.name, colour: one.group.colour, runs: one.runs, lines: [groupLine(one, scales, smoothing, t)] }));
  }, [runs, groups, scales, look, t]);
  const lines = useMemo(() => rows.flatMap((row) => (pointed === null || pointed === row.name ? row.lines : row.lines.map(paler))), [rows, pointed]);
  const numNonFinite = figures(runs.flatMap((run) => run.lines)).numNonFinite;
  const drawing = { isTime: false, isLog: look.isLogY, isLogX: look.isLogX, isClipped: look.isClipped, stretch: look.stretch };
  const ids = runs.map((run) => run.jobId).join("-");
  return (
    <>
      <div className="chart-title">
        <b title={metric}>{metric}</b>
        <ChartTools
          metric={metric}
          savePng={() => savePng(metric, `compare-${ids}-${metric}`, lines, NO_BANDS, { ...drawing, isDark })}
          {...(open && { open: () => open(metric) })}
        />
      </div>
      {numNonFinite > 0 && <div className="chart-warning">{t("charts.nonFinite", { n: numNonFinite })}</div>}
      <Chart lines={lines} bands={NO_BANDS} {...drawing} zoom={zoom} group={GROUP} height={height} testId={open ? `compare-chart-${metric}` : "full-chart"} label={t("compare.chartOf", { metric, n: runs.length })} />
      <Figures metric={metric} rows={rows} isGrouped={groups !== null} point={setPointed} />
    </>
  );
});

interface Row {
  name: string;
  colour: string;
  runs: RunLines[];
  lines: ChartLine[];
}

const paler = (line: ChartLine): ChartLine => ({ ...line, isOld: true });

/** Last, least and greatest value of each run, or of each group's mean; the one that is pointed at stands out in the chart. */
function Figures({ metric, rows, isGrouped, point }: { metric: string; rows: Row[]; isGrouped: boolean; point: (name: string | null) => void }) {
  const t = useT();
  return (
    <div className="compare-figures" role="region" aria-label={t("compare.figures", { metric })} tabIndex={rows.length > ROWS_IN_VIEW ? 0 : undefined}>
      <table>
        <thead>
          <tr>
            <th scope="col">{isGrouped ? t("compare.group") : t("compare.run")}</th>
            <th scope="col">{isGrouped ? t("compare.lastMean") : t("charts.last")}</th>
            <th scope="col">{t("charts.min")}</th>
            <th scope="col">{t("charts.max")}</th>
          </tr>
        </thead>
        <tbody onMouseLeave={() => point(null)}>
          {rows.map((row) => {
            const { last, min, max } = figures(row.runs.flatMap((run) => run.lines));
            const name = isGrouped ? `${row.name} (${t("compare.numRuns", { n: row.runs.length })})` : row.name;
            return (
              <tr key={row.name} onMouseEnter={() => point(row.name)}>
                <th scope="row" title={name}><span className="run-dot" style={{ background: row.colour }} aria-hidden /> {name}</th>
                <td>{number(isGrouped ? row.lines[0]?.raw.at(-1) : last)}</td>
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

function isSame(before: OverlayProps, after: OverlayProps): boolean {
  return (
    before.metric === after.metric &&
    before.groups === after.groups &&
    before.scales === after.scales &&
    before.look === after.look &&
    before.runs.length === after.runs.length &&
    before.runs.every((run, index) => isSameRun(run, after.runs[index]))
  );
}

function isSameRun(before: RunLines, after: RunLines | undefined): boolean {
  return before.jobId === after?.jobId && before.name === after.name && areSame(before.lines, after.lines);
}
