import { Table, Tag, Tooltip } from "antd";
import type { TableColumnsType } from "antd";
import { useMemo } from "react";
import { Link } from "react-router";
import type { Job } from "../../api/client";
import { number } from "../../app/format";
import { useLanguage, useT, type Language, type Translate } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { RunDot } from "../../ui/RunDot";
import { StateBadge } from "../../ui/StateBadge";
import { mainValue, otherValues, shortProgressText } from "./progress";

interface Props {
  jobs: Job[];
  /** Row that the keyboard stands on. */
  current: number | null;
  /** Evaluations that were picked to be compared. */
  picked: number[];
  pick: (jobIds: number[]) => void;
}

const ALL_ROWS_UP_TO = 200;
const HEIGHT_OF_THE_REST = 210;

export const isComparable = (job: Job) => job.kind === "evaluate" && job.state === "completed";

/** Jobs, one row each. */
export function JobTable({ jobs, current, picked, pick }: Props) {
  const t = useT();
  const language = useLanguage();
  const columns = useMemo(() => columnsIn(t, language), [t, language]);
  const isLong = jobs.length > ALL_ROWS_UP_TO;
  return (
    <Table
      className="job-table"
      size="small"
      rowKey="id"
      dataSource={jobs}
      columns={columns}
      tableLayout="fixed"
      pagination={false}
      sticky={!isLong}
      virtual={isLong}
      scroll={isLong ? { x: 1060, y: window.innerHeight - HEIGHT_OF_THE_REST } : { x: 1060 }}
      rowClassName={(job) => (job.id === current ? "current-row" : "")}
      onRow={(job) => ({ "data-testid": `job-row-${job.id}` }) as object}
      rowSelection={
        jobs.some(isComparable)
          ? {
              selectedRowKeys: picked,
              columnWidth: 34,
              hideSelectAll: true,
              onChange: (keys) => pick(keys.map(Number)),
              getCheckboxProps: (job) => ({ "aria-label": t("runs.pick", { name: job.name }) }) as object,
              renderCell: (_, job, __, box) => (isComparable(job) ? <Tooltip title={t("runs.pick", { name: job.name })}>{box}</Tooltip> : null),
            }
          : undefined
      }
    />
  );
}

function columnsIn(t: Translate, language: Language): TableColumnsType<Job> {
  return [
    { title: "#", dataIndex: "id", width: 46 },
    { title: t("runs.name"), ellipsis: true, render: (_, job) => <NameCell job={job} /> },
    { title: t("runs.state"), width: 100, render: (_, job) => <StateBadge job={job} /> },
    { title: t("runs.progress"), width: 226, ellipsis: true, render: (_, job) => <ProgressCell job={job} text={shortProgressText(job, t, language, Date.now())} /> },
    { title: t("runs.newest"), width: 136, ellipsis: true, render: (_, job) => <ValueCell job={job} /> },
    { title: t("runs.kind"), width: 82, render: (_, job) => job.algorithm ?? t("kind.evaluate") },
    { title: t("runs.model"), dataIndex: "model", width: 100, ellipsis: true },
    { title: t("runs.data"), dataIndex: "data", width: 84, ellipsis: true },
    { title: t("runs.created"), width: 98, ellipsis: true, render: (_, job) => <RelativeTime moment={job.created_at} /> },
  ];
}

function NameCell({ job }: { job: Job }) {
  return (
    <span className="cell-line" title={job.tags.length > 0 ? `${job.name} [${job.tags.join(", ")}]` : job.name}>
      <RunDot jobId={job.id} />
      <Link to={`/runs/${job.id}`}>{job.name}</Link>
      {job.tags.length > 0 && <span className="cut">{job.tags.map((tag) => <Tag key={tag} variant="filled">{tag}</Tag>)}</span>}
    </span>
  );
}

/** Where the job stands, or why it does not move. */
function ProgressCell({ job, text }: { job: Job; text: string }) {
  const isMoving = ["allocated", "running", "pausing", "cancelling", "completed"].includes(job.state);
  const words = isMoving || !job.cause ? text : job.cause;
  return (
    <Tooltip title={isMoving ? job.cause : [job.cause, text].filter(Boolean).join("; ")}>
      <span className="cell-line">
        {job.step !== null && job.total_steps !== null && <MiniBar fraction={job.step / job.total_steps} isFailed={job.state === "failed"} />}
        <span className="cut">{words}</span>
      </span>
    </Tooltip>
  );
}

function MiniBar({ fraction, isFailed }: { fraction: number; isFailed: boolean }) {
  return (
    <span className="mini-bar" data-failed={isFailed} aria-hidden>
      <span style={{ width: `${100 * Math.min(1, fraction)}%` }} />
    </span>
  );
}

function ValueCell({ job }: { job: Job }) {
  const main = mainValue(job);
  if (!main) return null;
  return (
    <Tooltip title={otherValues(job).map(([name, value]) => <div key={name}>{name} {number(value)}</div>)}>
      <span><b>{number(main[1])}</b> <span className="quiet">{main[0]}</span></span>
    </Tooltip>
  );
}
