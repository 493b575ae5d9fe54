import { Switch, Table, type TableColumnsType } from "antd";
import { useMemo } from "react";
import { Link } from "react-router";
import type { JobDetail } from "../../api/client";
import { absolute, duration } from "../../app/format";
import { useLanguage, useT, type Language, type Translate } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { RunDot } from "../../ui/RunDot";
import { configOf, configRows, isMarked, row, type Known, type Row } from "./logic";
import { useView } from "../../app/useView";

const KEY_WIDTH = 280;
const RUN_WIDTH = 170;

/** What each run was given, key by key. */
export function ConfigPanel({ runs }: { runs: Known[] }) {
  const t = useT();
  const language = useLanguage();
  const [view, change] = useView();
  const isOnlyDifferences = view.get("all") !== "1";
  const rows = useMemo(
    () => [...factRows(runs.map((run) => run.job), t, language), ...configRows(runs.map((run) => configOf(run.job)))],
    [runs, t, language],
  );
  const shown = isOnlyDifferences ? rows.filter((one) => one.isDifferent) : rows;
  const columns = useMemo(() => columnsOf(runs, t), [runs, t]);
  return (
    <div data-testid="compare-config">
      <div className="bar">
        <label className="cell-line">
          <Switch size="small" data-testid="compare-only-differences" aria-label={t("compare.onlyDifferences")} checked={isOnlyDifferences} onChange={(isOn) => change({ all: isOn ? null : "1" })} />
          {t("compare.onlyDifferences")}
        </label>
        <span className="quiet">{t("compare.rows", { n: shown.length, total: rows.length })} {t("compare.marked")}</span>
      </div>
      {shown.length === 0 ? (
        <EmptyState text={t("compare.noDifferences")} />
      ) : (
        <Table size="small" rowKey="key" dataSource={shown} columns={columns} pagination={false} sticky tableLayout="fixed" scroll={{ x: KEY_WIDTH + RUN_WIDTH * runs.length }} onRow={(one) => ({ "data-testid": `compare-row-${one.key}` }) as object} />
      )}
    </div>
  );
}

function columnsOf(runs: Known[], t: Translate): TableColumnsType<Row> {
  return [
    { title: t("compare.key"), width: KEY_WIDTH, fixed: "start", rowScope: "row", render: (_, one) => <code className="compare-key">{one.key}</code> },
    ...runs.map((run, index) => ({
      key: run.id,
      width: RUN_WIDTH,
      title: (
        <span className="cell-line">
          <RunDot jobId={run.id} />
          <Link to={`/runs/${run.id}`} title={run.job.name}>{run.job.name} #{run.id}</Link>
        </span>
      ),
      onCell: (one: Row) => ({ "data-differs": isMarked(one, index), className: isMarked(one, index) ? "compare-differs" : "" }) as object,
      render: (_: unknown, one: Row) => <span className="text">{one.values[index] ?? "–"}</span>,
    })),
  ];
}

/** What a run is, beside what its file says. */
function factRows(jobs: JobDetail[], t: Translate, language: Language): Row[] {
  const facts: [string, (job: JobDetail) => string | undefined][] = [
    [t("compare.model"), (job) => job.model ?? undefined],
    [t("compare.data"), (job) => job.data ?? undefined],
    [t("compare.seed"), (job) => String(job.seed)],
    [t("compare.state"), (job) => t(`state.${job.state}`)],
    [t("compare.created"), (job) => absolute(job.created_at, language)],
    [t("compare.duration"), took],
  ];
  return facts.map(([key, value]) => row(key, jobs.map(value)));
}

function took(job: JobDetail): string | undefined {
  if (!job.started_at) return undefined;
  const end = job.ended_at ?? job.last_heard_at;
  return end ? duration(Math.max(0, (Date.parse(end) - Date.parse(job.started_at)) / 1000)) : undefined;
}
