import type { ColumnType } from "antd/es/table";
import type { PointerEvent } from "react";
import type { Job } from "../../api/client";
import { number } from "../../app/format";
import type { Language, Translate } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { StateBadge } from "../../ui/StateBadge";
import { NameCell } from "./NameCell";
import { PickAllBox, PickBox } from "./Picks";
import { kindOf, mainValue, otherValues, shortProgressText } from "./progress";
import { change } from "./query";

interface Shown {
  t: Translate;
  language: Language;
  sort: string;
  /** Settings and metrics beside the fixed columns. */
  shown: string[];
  /** Other rows' metrics are shown with their difference to this one's. */
  baseline: Job | undefined;
}

/** The columns of the run table. Its order is the server's, so that it holds beyond what is loaded. */
export function columnsIn({ t, language, sort, shown, baseline }: Shown): ColumnType<Job>[] {
  const columns: ColumnType<Job>[] = [
    { key: "pick", title: <PickAllBox />, width: 34, render: (_, job) => <PickBox job={job} /> },
    { key: "id", title: "#", dataIndex: "id", width: 56, sorter: true },
    { key: "name", title: t("runs.name"), width: 196, ellipsis: true, sorter: true, render: (_, job) => <NameCell job={job} /> },
    { key: "state", title: t("runs.state"), width: 100, sorter: true, render: (_, job) => <StateBadge job={job} /> },
    { key: "step", title: t("runs.progress"), width: 200, ellipsis: true, sorter: true, render: (_, job) => <ProgressCell job={job} text={shortProgressText(job, t, language, Date.now())} /> },
    { key: "newest", title: t("runs.newest"), width: 126, ellipsis: true, render: (_, job) => <ValueCell job={job} /> },
    ...shown.map((name): ColumnType<Job> => ({ key: name, title: <span title={name}>{name.split(".").at(-1)}</span>, width: 130, ellipsis: true, sorter: true, render: (_, job) => <ShownCell name={name} job={job} baseline={baseline} /> })),
    { key: "kind", title: t("runs.kind"), width: 80, sorter: true, render: (_, job) => kindOf(job, t) },
    { key: "model", title: t("runs.model"), dataIndex: "model", width: 98, ellipsis: true, sorter: true },
    { key: "data", title: t("runs.data"), dataIndex: "data", width: 86, ellipsis: true, sorter: true },
    { key: "created", title: t("runs.created"), width: 104, ellipsis: true, sorter: true, render: (_, job) => <RelativeTime moment={job.created_at} /> },
  ];
  return columns.map((column) => ({ ...column, sortOrder: orderOf(sort, String(column.key)), shouldCellUpdate: onceEach() }));
}

/** Draw a cell again when its job has changed, and once when the columns have: the table itself draws all cells whenever one row has changed. */
function onceEach(): (job: Job, before: Job) => boolean {
  const drawn = new WeakSet<Job>();
  return (job, before) => {
    const isNews = job !== before || !drawn.has(job);
    drawn.add(job);
    return isNews;
  };
}

function orderOf(sort: string, key: string): "ascend" | "descend" | null {
  if (sort === key) return "ascend";
  return sort === `-${key}` ? "descend" : null;
}

function ShownCell({ name, job, baseline }: { name: string; job: Job; baseline: Job | undefined }) {
  if (name.includes(".") && name in job.settings) return <span className="mono">{String(job.settings[name])}</span>;
  const value = job.last_values[name];
  if (value === undefined) return <span className="quiet">–</span>;
  const percent = baseline && baseline.id !== job.id ? change(value, baseline.last_values[name]) : null;
  return (
    <span>
      {number(value)} {percent !== null && <span className="quiet" data-testid="change">{percent < 0 ? "\u2212" : "+"}{Math.abs(percent).toFixed(1)} %</span>}
    </span>
  );
}

/** Where the job stands, or why it does not move. */
function ProgressCell({ job, text }: { job: Job; text: string }) {
  const isMoving = ["allocated", "running", "pausing", "cancelling", "completed"].includes(job.state);
  const words = isMoving || !job.cause ? text : job.cause;
  return (
    <span className="cell-line" title={isMoving ? job.cause : [job.cause, text].filter(Boolean).join("; ")}>
      {job.step !== null && job.total_steps !== null && <MiniBar fraction={job.step / job.total_steps} isFailed={job.state === "failed"} />}
      <span className="cut">{words}</span>
    </span>
  );
}

function MiniBar({ fraction, isFailed }: { fraction: number; isFailed: boolean }) {
  return (
    <span className="mini-bar" data-failed={isFailed} aria-hidden>
      <span style={{ width: `${100 * Math.min(1, fraction)}%` }} />
    </span>
  );
}

export function ValueCell({ job }: { job: Job }) {
  const main = mainValue(job);
  if (!main) return null;
  const tell = (event: PointerEvent<HTMLElement>) => {
    event.currentTarget.title = otherValues(job).map(([name, value]) => `${name} ${number(value)}`).join("\n");
  };
  return <span onPointerEnter={tell}><b>{number(main[1])}</b> <span className="quiet">{main[0]}</span></span>;
}
