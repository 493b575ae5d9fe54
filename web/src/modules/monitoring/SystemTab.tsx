import { useQuery } from "@tanstack/react-query";
import { Card, Skeleton } from "antd";
import { useMemo } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { Chart } from "../../ui/Chart";
import type { ChartLine } from "../../ui/chartOptions";
import { paletteColour } from "../../ui/colours";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { ClusterCard, useCluster } from "./ClusterCard";
import { DataWait } from "./DataWait";
import { peak, resourceCharts, shortName, type ResourceChart } from "./resources";
import type { Lines } from "./series";

const POLL_MS = 5000;
const HEIGHT = 170;
const LIVE: JobDetail["state"][] = ["allocated", "running", "pausing", "cancelling"];

/** Where the run is, what its processes and its machine used over time, and whether its steps wait for data. */
export function SystemTab({ job, metrics }: { job: JobDetail; metrics: Lines }) {
  const t = useT();
  const every = LIVE.includes(job.state) ? POLL_MS : false;
  const cluster = useCluster(job, every);
  const found = useQuery({
    queryKey: ["resources", job.id, job.attempt],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/resources", { params: { path: { job_id: job.id } } })),
    refetchInterval: every,
    enabled: job.attempt > 0,
  });
  const charts = useMemo(() => resourceCharts(found.data?.series ?? []), [found.data]);
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (found.isLoading) return <Skeleton active />;
  if (charts.length === 0 && !cluster.data?.seen) return <EmptyState text={t("system.empty")} />;
  return (
    <>
      {cluster.error && !cluster.data && <ErrorCard error={cluster.error} retry={() => void cluster.refetch()} />}
      <ClusterCard job={job} view={cluster.data} />
      <DataWait metrics={metrics} attempt={job.attempt} />
      <div className="charts system-charts">
        {charts.map((chart) => <ResourceCard key={chart.key} chart={chart} jobId={job.id} numAttempts={job.attempt} />)}
      </div>
    </>
  );
}

function ResourceCard({ chart, jobId, numAttempts }: { chart: ResourceChart; jobId: number; numAttempts: number }) {
  const t = useT();
  const names = useMemo(() => [...new Set(chart.lines.map((line) => line.name))], [chart]);
  const lines = useMemo(
    () =>
      chart.lines.map((line): ChartLine => ({
        name: numAttempts > 1 ? `${line.name} (${t("run.attempt", { n: line.attempt })})` : line.name,
        x: line.times,
        raw: line.values,
        shown: line.values,
        colour: paletteColour(names.indexOf(line.name)),
        isOld: false,
      })),
    [chart, names, numAttempts, t],
  );
  const title = t(`system.${chart.key}`) + (chart.unit && ` (${chart.unit})`);
  return (
    <Card size="small" styles={{ body: { padding: "8px 10px 4px" } }}>
      <div className="chart-title"><b>{title}</b></div>
      <ul className="legend system-legend">
        {names.map((name, index) => <LegendItem key={name} name={name} colour={paletteColour(index)} chart={chart} />)}
      </ul>
      <Chart lines={lines} bands={[]} isTime isLog={false} group={`system-${jobId}`} height={HEIGHT} testId={`system-${chart.key}`} label={title} />
    </Card>
  );
}

/** A line's colour, its newest value and its peak. */
function LegendItem({ name, colour, chart }: { name: string; colour: string; chart: ResourceChart }) {
  const t = useT();
  const own = chart.lines.filter((line) => line.name === name);
  const peaks = own.map(peak).filter((value) => value !== null);
  return (
    <li>
      <span className="run-dot" style={{ background: colour }} aria-hidden /> {shortName(name)}{" "}
      <span className="quiet">{number(own.at(-1)?.values.at(-1), 3)} · {t("system.peak")} {peaks.length > 0 ? number(Math.max(...peaks), 3) : "–"}</span>
    </li>
  );
}
