import { Button, Skeleton } from "antd";
import { useMemo, useState } from "react";
import { Link, useNavigate } from "react-router";
import type { Job } from "../../api/client";
import { whole as inGroups } from "../../app/format";
import { useT } from "../../app/i18n";
import { useKeys } from "../../app/keys";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { Comparison } from "../evaluation/Comparison";
import { GroupTable } from "./GroupTable";
import { JobTable } from "./JobTable";
import { whole } from "./query";
import { RunBar } from "./RunBar";
import { SelectionBar } from "./SelectionBar";
import { useJobs } from "./useJobs";
import { picking, useView } from "./useView";

export const FIRST_RUN = "finery data generate arithmetic --name sums && finery jobs submit recipes/tiny_grpo.yaml";

const isScore = (job: Job) => job.kind === "evaluate" && job.state === "completed";

/** All runs: found, sorted, grouped, put in order and compared. The whole view lives in the address. */
export default function RunsPage() {
  const t = useT();
  const navigate = useNavigate();
  const [view, change, address] = useView();
  const query = whole(view.query, view.states, view.isArchive);
  const jobs = useJobs({ query, sort: view.sort, settings: view.columns.filter((name) => name.includes(".")) });
  const rows = useMemo(() => jobs.data?.pages.flatMap((page) => page.jobs) ?? [], [jobs.data]);
  const [current, setCurrent] = useState<number | null>(null);
  const move = (by: number) => {
    const at = rows.findIndex((job) => job.id === current);
    const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    if (!next) return;
    setCurrent(next.id);
    document.querySelector(`[data-testid=job-row-${next.id}]`)?.scrollIntoView({ block: "nearest" });
  };
  const pick = (id: number) => change((newest) => picking([id], !newest.picked.includes(id))(newest));
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    x: () => current !== null && pick(current),
    Enter: () => current !== null && void navigate(`/runs/${current}`),
  });
  const total = jobs.data?.pages.at(-1)?.total ?? 0;
  const scores = rows.filter((job) => view.picked.includes(job.id) && isScore(job)).map((job) => job.id);
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("runs.title")} {jobs.data && total > 0 && <small className="quiet">{t("runs.count", { n: inGroups(total) })}</small>}</h1>
        <Link to="/launch"><Button type="primary">{t("runs.launch")}</Button></Link>
      </div>
      <RunBar view={view} change={change} address={address} />
      {view.picked.length > 0 && <SelectionBar jobs={rows} view={view} change={change} />}
      {jobs.error && <div className="card"><ErrorCard error={jobs.error} retry={() => void jobs.refetch()} /></div>}
      {jobs.isLoading && <Skeleton active />}
      {view.picked.length === 2 && scores.length === 2 && <Comparison baseline={Math.min(...scores)} candidate={Math.max(...scores)} />}
      {view.group && view.metric && <GroupTable query={query} by={view.group} metric={view.metric} open={(condition) => change({ query: `${view.query} ${condition}`.trim(), group: "" })} />}
      {jobs.data && rows.length === 0 && !jobs.error && (
        <EmptyState text={query ? t("runs.none") : t("runs.empty")} command={query ? undefined : FIRST_RUN} />
      )}
      {rows.length > 0 && (
        <JobTable
          jobs={rows}
          current={current}
          view={view}
          change={change}
          showMore={() => jobs.hasNextPage && !jobs.isFetchingNextPage && void jobs.fetchNextPage()}
        />
      )}
    </div>
  );
}
