import { Skeleton, Tabs } from "antd";
import { useCallback, useState } from "react";
import { useParams, useSearchParams } from "react-router";
import type { JobDetail, Streamed } from "../../api/client";
import { useT } from "../../app/i18n";
import { useTitle } from "../../app/title";
import { ErrorCard } from "../../ui/ErrorCard";
import { AlertsLabel, AlertsTab } from "../monitoring/AlertsTab";
import { AnswersTab } from "../monitoring/AnswersTab";
import { ChartsTab } from "../monitoring/ChartsTab";
import { GradientsTab } from "../monitoring/GradientsTab";
import { RolloutsTab } from "../monitoring/RolloutsTab";
import { SystemTab } from "../monitoring/SystemTab";
import { useSeries } from "../monitoring/useSeries";
import { CheckpointsTab } from "./CheckpointsTab";
import { LogsTab } from "./LogsTab";
import { OverviewTab } from "./OverviewTab";
import { RunHeader } from "./RunHeader";
import { useLive, useRun } from "./useRun";
import { useStory } from "./useStory";

const TABS = ["overview", "charts", "gradients", "samples", "checkpoints", "alerts", "system", "logs"] as const;

/** One run. The tab and its settings live in the address. */
export default function RunPage() {
  const { job: id } = useParams();
  const run = useRun(Number(id));
  if (run.error && !run.data) return <div className="page"><ErrorCard error={run.error} retry={() => void run.refetch()} /></div>;
  if (!run.data) return <div className="page"><Skeleton active /></div>;
  return <Run key={run.data.id} job={run.data} />;
}

function Run({ job }: { job: JobDetail }) {
  const t = useT();
  const [view, setView] = useSearchParams();
  const series = useSeries(job.id);
  const tell = useStory(job.id);
  const [newestSample, setNewestSample] = useState(0);
  const [newestProbe, setNewestProbe] = useState(0);
  const { append } = series;
  const takeEvent = useCallback(
    (streamed: Streamed) => {
      append(streamed);
      if (streamed.event.type === "sample") setNewestSample(streamed.cursor);
      if (streamed.event.type === "gradients") setNewestProbe(streamed.cursor);
      tell(streamed.event);
    },
    [append, tell],
  );
  useLive(job.id, series.cursor, takeEvent);
  useTitle(`${job.name} #${job.id}`);
  const tabs = TABS.filter((name) => name !== "gradients" || job.kind === "train");
  const tab = tabs.find((name) => name === view.get("tab")) ?? "overview";
  const select = (key: string) =>
    setView(
      (before) => {
        before.set("tab", key);
        return before;
      },
      { replace: true },
    );
  const contents = {
    overview: <OverviewTab job={job} />,
    charts: <ChartsTab job={job} lines={series.lines} error={series.error} isLoading={series.isLoading} />,
    gradients: <GradientsTab job={job} newest={newestProbe} />,
    samples: job.kind === "evaluate" ? <AnswersTab job={job} newest={newestSample} /> : <RolloutsTab job={job} newest={newestSample} />,
    checkpoints: <CheckpointsTab job={job} />,
    alerts: <AlertsTab job={job} />,
    system: <SystemTab job={job} metrics={series.lines} />,
    logs: <LogsTab job={job} />,
  };
  return (
    <div className="page run-page">
      <RunHeader job={job} />
      <Tabs
        activeKey={tab}
        onChange={select}
        items={tabs.map((name) => ({ key: name, label: <span data-testid={`tab-${name}`}>{name === "alerts" ? <AlertsLabel jobId={job.id} /> : t(`tab.${name}`)}</span>, children: contents[name] }))}
        destroyOnHidden
      />
    </div>
  );
}
