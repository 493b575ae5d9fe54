import { Skeleton, Space, Tabs, Tag } from "antd";
import { useCallback, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import type { JobDetail, Streamed } from "../../api/client";
import { useLanguage, useT } from "../../app/i18n";
import { runColour } from "../../ui/colours";
import { ErrorCard } from "../../ui/ErrorCard";
import { StateBadge } from "../../ui/StateBadge";
import { ChartsTab } from "../monitoring/ChartsTab";
import { AnswersTab } from "../monitoring/AnswersTab";
import { RolloutsTab } from "../monitoring/RolloutsTab";
import { useSeries } from "../monitoring/useSeries";
import { LogsTab } from "./LogsTab";
import { OverviewTab } from "./OverviewTab";
import { progressText } from "./progress";
import { useLive, useRun } from "./useRun";
import { VerbButtons } from "./VerbButtons";

/** One run. The tab lives in the address. */
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
  const [newestSample, setNewestSample] = useState(0);
  const { append } = series;
  const takeEvent = useCallback(
    (streamed: Streamed) => {
      if (streamed.event.type === "metrics") append(streamed);
      if (streamed.event.type === "sample") setNewestSample(streamed.cursor);
    },
    [append],
  );
  useLive(job.id, series.cursor, takeEvent);
  const tab = view.get("tab") ?? "overview";
  const label = (name: "overview" | "charts" | "samples" | "logs") => <span data-testid={`tab-${name}`}>{t(`tab.${name}`)}</span>;
  return (
    <div className="page">
      <RunHeader job={job} />
      <Tabs
        activeKey={tab}
        onChange={(key) => setView({ tab: key }, { replace: true })}
        items={[
          { key: "overview", label: label("overview"), children: <OverviewTab job={job} /> },
          { key: "charts", label: label("charts"), children: <ChartsTab job={job} lines={series.lines} error={series.error} isLoading={series.isLoading} /> },
          {
            key: "samples",
            label: label("samples"),
            children: job.kind === "evaluate" ? <AnswersTab job={job} newest={newestSample} /> : <RolloutsTab job={job} newest={newestSample} />,
          },
          { key: "logs", label: label("logs"), children: <LogsTab job={job} /> },
        ]}
        destroyOnHidden
      />
    </div>
  );
}

function RunHeader({ job }: { job: JobDetail }) {
  const t = useT();
  const language = useLanguage();
  const progress = progressText(job, t, language, Date.now());
  return (
    <header className="page-title" style={{ position: "sticky", top: 0, zIndex: 5, background: "inherit" }}>
      <div>
        <h1>
          <span style={{ width: 11, height: 11, borderRadius: 11, background: runColour(job.id), display: "inline-block", marginInlineEnd: 8 }} />
          {job.name} <span style={{ opacity: 0.6 }}>#{job.id}</span>
        </h1>
        <Space size={12} wrap data-testid="run-header">
          <StateBadge job={job} />
          {job.cause && <span>{job.cause}</span>}
          {progress && <span data-testid="progress">{progress}</span>}
          {job.attempt > 0 && <span>{t("run.attempt", { n: job.attempt })}</span>}
          <Tag>{job.algorithm ?? job.kind}</Tag>
          <span>{job.model}</span>
          {job.data && <span>{job.data}</span>}
          <span>{t("run.seed")} {job.seed}</span>
          {job.after.length > 0 && (
            <span>{t("run.waits")} {job.after.map((other) => <Link key={other} to={`/runs/${other}`}> #{other}</Link>)}</span>
          )}
        </Space>
      </div>
      <VerbButtons job={job} />
    </header>
  );
}
