import { Button, Input, Select, Skeleton } from "antd";
import { useEffect, useMemo, useState } from "react";
import { Link, useNavigate, useSearchParams } from "react-router";
import type { Job } from "../../api/client";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { useKeys } from "../../app/keys";
import { STATE_STATUS } from "../../ui/colours";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { Comparison } from "../evaluation/Comparison";
import { isComparable, JobTable } from "./JobTable";
import { useJobs } from "./useJobs";

const FIRST = "finery data generate arithmetic --name sums && finery jobs submit recipes/tiny_grpo.yaml";
const SEARCH_AFTER_MS = 250;

const parts = (text: string | null) => (text ? text.split(",") : []);

/** All runs, newest first. Search, filter and what is compared live in the address. */
export default function RunsPage() {
  const t = useT();
  const navigate = useNavigate();
  const [view, setView] = useSearchParams();
  const search = view.get("q") ?? "";
  const states = parts(view.get("state"));
  const picked = parts(view.get("compare")).map(Number).filter(Number.isInteger);
  const jobs = useJobs(search, states);
  const rows = useMemo(() => jobs.data?.jobs ?? [], [jobs.data]);
  const [current, setCurrent] = useState<number | null>(null);
  const change = (name: string, value: string) =>
    setView(
      (before) => {
        if (value) before.set(name, value);
        else before.delete(name);
        return before;
      },
      { replace: true },
    );
  const move = (by: number) => {
    const at = rows.findIndex((job) => job.id === current);
    const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
    if (!next) return;
    setCurrent(next.id);
    document.querySelector(`[data-testid=job-row-${next.id}]`)?.scrollIntoView({ block: "nearest" });
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    Enter: () => {
      if (current !== null) void navigate(`/runs/${current}`);
    },
  });
  const isFiltered = Boolean(search) || states.length > 0;
  const total = jobs.data?.total ?? 0;
  const [baseline, candidate] = picked.length === 2 ? [Math.min(...picked), Math.max(...picked)] : [undefined, undefined];
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("runs.title")}</h1>
        <Link to="/launch"><Button type="primary">{t("runs.launch")}</Button></Link>
      </div>
      <div className="bar" data-search>
        <SearchField value={search} change={(value) => change("q", value)} />
        <Select
          mode="multiple"
          allowClear
          aria-label={t("runs.state")}
          placeholder={t("runs.state")}
          value={states}
          onChange={(chosen: string[]) => change("state", chosen.join(","))}
          maxTagCount="responsive"
          style={{ width: 240 }}
          options={(Object.keys(STATE_STATUS) as Job["state"][]).map((value) => ({ value, label: t(`state.${value}`) }))}
        />
        {jobs.data && total > 0 && (
          <span className="quiet">{rows.length < total ? t("runs.some", { shown: whole(rows.length), total: whole(total) }) : t("runs.count", { n: whole(total) })}</span>
        )}
        {picked.length === 1 && <span>{t("runs.pickAnother")}</span>}
        {picked.length > 2 && <span>{t("runs.pickTwo")}</span>}
      </div>
      {jobs.error && !jobs.data && <ErrorCard error={jobs.error} retry={() => void jobs.refetch()} />}
      {jobs.isLoading && <Skeleton active />}
      {baseline !== undefined && candidate !== undefined && <Comparison baseline={baseline} candidate={candidate} />}
      {jobs.data && rows.length === 0 && (
        <EmptyState text={isFiltered ? t("runs.none") : t("runs.empty")} command={isFiltered ? undefined : FIRST} />
      )}
      {rows.length > 0 && (
        <JobTable
          jobs={rows}
          current={current}
          picked={picked.filter((id) => rows.some((job) => job.id === id && isComparable(job)))}
          pick={(ids) => change("compare", ids.join(","))}
        />
      )}
    </div>
  );
}

/** Goes into the address a moment after the last key. */
function SearchField({ value, change }: { value: string; change: (value: string) => void }) {
  const t = useT();
  const [text, setText] = useState(value);
  useEffect(() => {
    if (text === value) return;
    const timer = window.setTimeout(() => change(text.trim()), SEARCH_AFTER_MS);
    return () => window.clearTimeout(timer);
    // Only a key press starts the clock: `change` is a new function on each render.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [text]);
  return (
    <Input
      type="search"
      allowClear
      placeholder={t("runs.search")}
      aria-label={t("runs.search")}
      value={text}
      onChange={(event) => setText(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Escape") event.currentTarget.blur();
      }}
      style={{ width: 300 }}
    />
  );
}
