import { CloseOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useMemo, useState } from "react";
import { Link } from "react-router";
import { api, take, type Job } from "../../api/client";
import { useT } from "../../app/i18n";
import { RunDot } from "../../ui/RunDot";
import { MAX_RUNS, type Compared } from "./logic";

const LIMIT = 1000;

interface Props {
  runs: Compared[];
  choose: (ids: number[]) => void;
}

/** Adds runs by name or number, and takes them out again. */
export function RunPicker({ runs, choose }: Props) {
  const t = useT();
  const ids = runs.map((run) => run.id);
  const [search, setSearch] = useState("");
  const found = useQuery({ queryKey: ["compare-runs"], queryFn: () => take(api.GET("/api/jobs", { params: { query: { limit: LIMIT } } })) });
  const options = useMemo(() => choices(found.data?.jobs ?? [], runs, search), [found.data, runs, search]);
  return (
    <div className="bar" data-search>
      <Select<number[]>
        mode="multiple"
        data-testid="compare-add"
        aria-label={t("compare.add")}
        placeholder={t("compare.add")}
        value={ids}
        onChange={choose}
        options={options}
        maxCount={MAX_RUNS}
        maxTagCount={0}
        maxTagPlaceholder={t("compare.chosen", { n: ids.length })}
        showSearch={{ optionFilterProp: "label", searchValue: search, onSearch: setSearch }}
        loading={found.isLoading}
        style={{ width: 280 }}
      />
      <ul className="compare-runs" aria-label={t("compare.runs")}>
        {runs.map((run) => (
          <RunTag key={run.id} run={run} remove={() => choose(ids.filter((id) => id !== run.id))} />
        ))}
      </ul>
    </div>
  );
}

function RunTag({ run, remove }: { run: Compared; remove: () => void }) {
  const t = useT();
  const name = titleOf(run.id, run.job?.name);
  return (
    <li className="compare-run" data-testid={`compare-run-${run.id}`}>
      <RunDot jobId={run.id} />
      <Link to={`/runs/${run.id}`} title={name}>{name}</Link>
      <button type="button" aria-label={t("compare.remove", { name })} data-testid={`compare-remove-${run.id}`} onClick={remove}>
        <CloseOutlined aria-hidden />
      </button>
    </li>
  );
}

const titleOf = (id: number, name: string | undefined) => (name ? `${name} #${id}` : `#${id}`);

/** The newest runs, those chosen already, and the one whose number was typed, which may be older. */
function choices(jobs: Job[], runs: Compared[], search: string): { value: number; label: string }[] {
  const found = new Map(jobs.map((job) => [job.id, titleOf(job.id, job.name)]));
  for (const { id, job } of runs) if (!found.has(id)) found.set(id, titleOf(id, job?.name));
  const typed = /^#?([1-9]\d{0,14})$/.exec(search.trim())?.[1];
  if (typed && !found.has(Number(typed))) found.set(Number(typed), `#${typed}`);
  return [...found].map(([value, label]) => ({ value, label }));
}
