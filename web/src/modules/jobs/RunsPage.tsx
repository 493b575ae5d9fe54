import { Button, Input, Progress, Select, Space, Table, Tag, Tooltip } from "antd";
import type { TableColumnsType } from "antd";
import { useMemo, useState } from "react";
import { Link, useNavigate, useSearchParams } from "react-router";
import type { Job } from "../../api/client";
import { number } from "../../app/format";
import { useLanguage, useT } from "../../app/i18n";
import { useKeys } from "../../app/keys";
import { runColour, STATE_STATUS } from "../../ui/colours";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { RelativeTime } from "../../ui/RelativeTime";
import { StateBadge } from "../../ui/StateBadge";
import { newestValues, progressText } from "./progress";
import { useJobs } from "./useJobs";

const FIRST = "finery data generate arithmetic --name sums && finery jobs submit recipes/tiny_grpo.yaml";

/** All runs, newest first. Search and filter live in the address. */
export default function RunsPage() {
  const t = useT();
  const language = useLanguage();
  const navigate = useNavigate();
  const [view, setView] = useSearchParams();
  const search = view.get("q") ?? "";
  const state = view.get("state") ?? "";
  const jobs = useJobs(search, state);
  const rows = useMemo(() => jobs.data?.jobs ?? [], [jobs.data]);
  const [selected, setSelected] = useState(-1);
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(view);
    if (value) next.set(name, value);
    else next.delete(name);
    setView(next, { replace: true });
  };
  useKeys({
    j: () => setSelected((at) => Math.min(rows.length - 1, at + 1)),
    k: () => setSelected((at) => Math.max(0, at - 1)),
    Enter: () => {
      const job = rows[selected];
      if (job) void navigate(`/runs/${job.id}`);
    },
  });
  const columns: TableColumnsType<Job> = [
    { title: "#", dataIndex: "id", width: 64 },
    {
      title: t("runs.name"),
      render: (_, job) => (
        <Space size={6}>
          <span style={{ width: 9, height: 9, borderRadius: 9, background: runColour(job.id), display: "inline-block" }} />
          <Link to={`/runs/${job.id}`}>{job.name}</Link>
          {job.tags.map((tag) => <Tag key={tag}>{tag}</Tag>)}
        </Space>
      ),
    },
    { title: t("runs.state"), render: (_, job) => <StateBadge job={job} />, width: 130 },
    { title: t("runs.kind"), render: (_, job) => job.algorithm ?? job.kind, width: 90 },
    { title: t("runs.progress"), render: (_, job) => <ProgressCell job={job} text={progressText(job, t, language, Date.now())} />, width: 230 },
    {
      title: t("runs.newest"),
      render: (_, job) => newestValues(job).slice(0, 2).map(([name, value]) => (
        <div key={name}>{name} <b>{number(value)}</b></div>
      )),
      width: 190,
    },
    { title: t("runs.model"), dataIndex: "model", ellipsis: true },
    { title: t("runs.data"), dataIndex: "data", ellipsis: true },
    { title: t("runs.created"), render: (_, job) => <RelativeTime moment={job.created_at} />, width: 130 },
  ];
  const isFiltered = Boolean(search || state);
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("runs.title")}</h1>
        <Link to="/launch"><Button type="primary">{t("runs.launch")}</Button></Link>
      </div>
      <div className="bar" data-search>
        <Input.Search allowClear placeholder={t("runs.search")} aria-label={t("runs.search")} defaultValue={search} onChange={(e) => change("q", e.target.value)} style={{ width: 320 }} />
        <Select
          allowClear
          aria-label={t("runs.state")}
          placeholder={t("runs.state")}
          value={state || undefined}
          onChange={(value?: string) => change("state", value ?? "")}
          style={{ width: 180 }}
          options={(Object.keys(STATE_STATUS) as Job["state"][]).map((value) => ({ value, label: t(`state.${value}`) }))}
        />
      </div>
      {jobs.error && !jobs.data && <ErrorCard error={jobs.error} retry={() => void jobs.refetch()} />}
      {jobs.data && rows.length === 0 && (
        <EmptyState text={isFiltered ? t("runs.none") : t("runs.empty")} command={isFiltered ? undefined : FIRST} />
      )}
      {rows.length > 0 && (
        <Table
          size="small"
          rowKey="id"
          dataSource={rows}
          columns={columns}
          scroll={{ x: 1100 }}
          pagination={rows.length > 50 ? { pageSize: 50 } : false}
          onRow={(job, index) => ({ "data-testid": `job-row-${job.id}`, className: index === selected ? "selected-row" : "" }) as object}
        />
      )}
    </div>
  );
}

function ProgressCell({ job, text }: { job: Job; text: string }) {
  if (job.step === null) return <Tooltip title={job.cause}><span>{job.cause}</span></Tooltip>;
  return (
    <div>
      {job.total_steps !== null && <Progress percent={(100 * job.step) / job.total_steps} showInfo={false} size="small" status={job.state === "failed" ? "exception" : "normal"} style={{ marginBottom: 0 }} />}
      <span>{text}</span>
    </div>
  );
}
