import { App, Button, Card, Checkbox, Dropdown, Segmented, Skeleton, Space, Table, Tag, Tooltip, Typography } from "antd";
import { useMemo } from "react";
import { Link, useNavigate } from "react-router";
import type { JobDetail } from "../../api/client";
import { bytes, percent, specYaml, whole } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { useDark } from "../../app/theme";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { Plot } from "../../ui/Plot";
import { RelativeTime } from "../../ui/RelativeTime";
import { points, standing, timelineOption, type Checkpoint, type Evaluation, type Timeline } from "./timeline";
import { useAct, useTimeline, type Act } from "./useTimeline";

const HEIGHT = 250;
const PAGE = 50;

/** What the run has saved over time: how good each is, what keeps it, and what can be done with it. */
export function CheckpointsTab({ job }: { job: JobDetail }) {
  const t = useT();
  const found = useTimeline(job);
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (!found.data) return <Skeleton active />;
  if (found.data.checkpoints.length === 0) return <EmptyState text={t("checkpoints.empty")} />;
  return <Loaded job={job} timeline={found.data} />;
}

function Loaded({ job, timeline }: { job: JobDetail; timeline: Timeline }) {
  const t = useT();
  const [view, change] = useView();
  const series = timeline.series.find((one) => one.key === view.get("series")) ?? timeline.series[0];
  const there = timeline.checkpoints.filter((row) => row.is_there);
  const numGone = timeline.checkpoints.length - there.length;
  const withGone = view.get("deleted") === "1";
  const total = there.reduce((sum, row) => sum + row.num_bytes, 0);
  return (
    <>
      {timeline.series.length > 1 && series && (
        <p><Segmented size="small" value={series.key} onChange={(key) => change({ series: key })} options={timeline.series.map((one) => ({ value: one.key, label: one.label }))} /></p>
      )}
      <Scores timeline={timeline} series={series} />
      <p className="quiet">
        {t("checkpoints.total", { n: there.length, size: bytes(total) })}{" "}
        {numGone > 0 && <Checkbox data-testid="show-deleted" checked={withGone} onChange={(event) => change({ deleted: event.target.checked ? "1" : null })}>{t("checkpoints.deleted", { n: numGone })}</Checkbox>}
      </p>
      <CheckpointTable job={job} timeline={timeline} series={series?.key} rows={withGone ? timeline.checkpoints : there} />
    </>
  );
}

/** The chart; where there is nothing to draw, what would make something. */
function Scores({ timeline, series }: { timeline: Timeline; series: Timeline["series"][number] | undefined }) {
  const t = useT();
  const isDark = useDark();
  const shown = useMemo(() => points(timeline.checkpoints, series?.key), [timeline, series]);
  if (!series) return timeline.has_plan ? null : <p className="quiet" data-testid="no-plan">{t("checkpoints.noPlan")}</p>;
  const words = {
    best: t("checkpoints.best"),
    overFitting: t("checkpoints.overFitting"),
    latest: t("checkpoints.latest"),
    left: t("checkpoints.left"),
    gone: t("checkpoints.gone"),
    band: t("checkpoints.band"),
  };
  return (
    <Card size="small" className="card" title={<>{t("checkpoints.chart")} <span className="quiet">{series.label}</span></>}>
      {shown.length === 0
        ? <p className="quiet">{t("checkpoints.noScore")}</p>
        : <Plot option={timelineOption(shown, words, isDark)} height={HEIGHT} numPoints={shown.length} testId="timeline" label={t("checkpoints.chart")} />}
    </Card>
  );
}

interface TableProps {
  job: JobDetail;
  timeline: Timeline;
  series: string | undefined;
  rows: Checkpoint[];
}

function CheckpointTable({ job, timeline, series, rows }: TableProps) {
  const t = useT();
  const isGuest = useIsGuest();
  const hasAttempts = new Set(timeline.checkpoints.map((row) => row.attempt)).size > 1;
  return (
    <Table<Checkpoint>
      size="small"
      rowKey="id"
      pagination={rows.length > PAGE ? { pageSize: PAGE, showSizeChanger: false } : false}
      dataSource={[...rows].reverse()}
      onRow={(row) => ({ "data-testid": `checkpoint-${row.step}`, className: row.is_there ? "" : "quiet" }) as object}
      columns={[
        { title: t("col.step"), width: 84, render: (_, row) => whole(row.step) },
        { title: t("col.reference"), width: 176, render: (_, row) => <References row={row} /> },
        ...(hasAttempts ? [{ title: t("col.attempt"), dataIndex: "attempt", width: 80 }] : []),
        { title: t("checkpoints.score"), render: (_, row) => <Standing row={row} evaluation={standing(row, series)} /> },
        { title: t("checkpoints.kept"), width: 160, render: (_, row) => <Kept row={row} /> },
        { title: t("col.size"), width: 84, render: (_, row) => (row.is_there ? bytes(row.num_bytes) : t("checkpoints.gone")) },
        { title: t("col.saved"), width: 112, render: (_, row) => <RelativeTime moment={row.created_at} /> },
        ...(isGuest ? [] : [{ title: t("checkpoints.use"), width: 216, render: (_: unknown, row: Checkpoint) => row.is_there && <Uses job={job} row={row} hasPlan={timeline.has_plan} /> }]),
      ]}
    />
  );
}

function References({ row }: { row: Checkpoint }) {
  const t = useT();
  return (
    <>
      <Typography.Text copyable={row.is_there && { text: row.ref }}><code>{row.ref}</code></Typography.Text>
      {row.average_ref !== null && (
        <div><Tooltip title={t("checkpoints.average.why")}><Typography.Text className="quiet" copyable={{ text: row.average_ref }} data-testid={`average-${row.step}`}><code>{row.average_ref}</code></Typography.Text></Tooltip></div>
      )}
    </>
  );
}

/** The score with its marks, or how far its evaluation is. */
function Standing({ row, evaluation }: { row: Checkpoint; evaluation: Evaluation | undefined }) {
  const t = useT();
  const score = evaluation?.score;
  const [low = 0, high = 1] = score?.interval ?? [];
  return (
    <Space size={6} wrap>
      {score && evaluation.job_id !== null && <Link to={`/runs/${evaluation.job_id}?tab=samples`}><b>{percent(score.accuracy)}</b></Link>}
      {score && <span className="quiet">{percent(low)} – {percent(high)}</span>}
      {score?.is_best && <Mark name="best" tone="good" />}
      {score?.is_over_fitting && <Mark name="overFitting" tone="warning" />}
      {row.is_latest && <Mark name="latest" />}
      {!row.is_on_path && <Mark name="left" />}
      {evaluation && evaluation.state !== "scored" && (
        <span className={evaluation.state === "failed" ? "" : "quiet"} data-testid={`standing-${row.step}`}>
          {evaluation.job_id === null ? t(`checkpoints.state.${evaluation.state}`) : <Link to={`/runs/${evaluation.job_id}`}>{t(`checkpoints.state.${evaluation.state}`)}</Link>}
          {evaluation.cause && `: ${evaluation.cause}`}
        </span>
      )}
    </Space>
  );
}

function Mark({ name, tone = "info" }: { name: "best" | "overFitting" | "latest" | "left"; tone?: "good" | "warning" | "info" }) {
  const t = useT();
  return <Tooltip title={t(`checkpoints.${name}.why`)}><Tag variant="outlined" className="tone" data-tone={tone} data-testid={`mark-${name}`}>{t(`checkpoints.${name}`)}</Tag></Tooltip>;
}

function Kept({ row }: { row: Checkpoint }) {
  const t = useT();
  if (!row.is_there) return null;
  if (row.kept.length === 0) return <span className="quiet">{t("checkpoints.kept.nothing")}</span>;
  return (
    <Space size={6} wrap>
      {row.kept.map((one) => (
        <span key={`${one.reason} ${one.job_id ?? ""}`}>
          {one.reason === "job" ? <Link to={`/runs/${one.job_id ?? ""}`}>{t("checkpoints.kept.job")} #{one.job_id}</Link> : t(`checkpoints.kept.${one.reason}`)}
        </span>
      ))}
    </Space>
  );
}

/** What can be done with a checkpoint: often with one click, else from the menu. */
function Uses({ job, row, hasPlan }: { job: JobDetail; row: Checkpoint; hasPlan: boolean }) {
  const t = useT();
  const navigate = useNavigate();
  const { modal } = App.useApp();
  const act = useAct(job);
  const launch = (spec: object) => void navigate("/launch", { state: { text: specYaml(spec) } });
  const ask = (name: Act) => act.mutate({ act: name, row });
  const remove = () => modal.confirm({
    title: t("checkpoints.delete.sure", { step: whole(row.step), size: bytes(row.num_bytes) }),
    okText: t("checkpoints.delete"),
    okButtonProps: { danger: true },
    cancelText: t("live.leave"),
    onOk: () => ask("delete"),
  });
  const items = [
    { key: "train", label: <span data-testid={`train-from-${row.step}`}>{t("checkpoints.train")}</span>, onClick: () => launch(trainFrom(job, row)) },
    ...(job.verbs.includes("rewind") ? [{ key: "rewind", label: <span data-testid={`rewind-${row.step}`}>{t("checkpoints.rewind")}</span>, onClick: () => ask("rewind") }] : []),
    row.is_pinned
      ? { key: "release", label: <span data-testid={`release-${row.step}`}>{t("checkpoints.release")}</span>, onClick: () => ask("release") }
      : { key: "keep", label: <span data-testid={`keep-${row.step}`}>{t("checkpoints.keep")}</span>, onClick: () => ask("keep") },
    { key: "delete", danger: true, label: <span data-testid={`delete-${row.step}`}>{t("checkpoints.delete")}</span>, onClick: remove },
  ];
  return (
    <Space size={6}>
      <Button size="small" loading={act.isPending && act.variables.act === "evaluate"} onClick={() => (hasPlan ? ask("evaluate") : launch(evaluation(job, row)))} data-testid={`evaluate-${row.step}`}>{t("checkpoints.evaluate")}</Button>
      <Button size="small" onClick={() => void navigate(`/chat?${new URLSearchParams({ a: row.ref }).toString()}`)} data-testid={`chat-${row.step}`}>{t("checkpoints.chat")}</Button>
      <Dropdown menu={{ items }} trigger={["click"]}><Button size="small" data-testid={`more-${row.step}`}>{t("checkpoints.more")} ▾</Button></Dropdown>
    </Space>
  );
}

/** The same job, from this checkpoint's weights on. */
function trainFrom(job: JobDetail, row: Checkpoint): object {
  const spec = job.spec as { task: { model: object } };
  return { ...spec, name: nameOf(job, `from-${row.step}`), after: [], task: { ...spec.task, model: { ...spec.task.model, base: row.ref } } };
}

function evaluation(job: JobDetail, row: Checkpoint): object {
  return {
    name: nameOf(job, `at-${row.step}`),
    kind: "evaluate",
    task: { model: { base: row.ref }, benchmark: { name: "arithmetic" }, data: job.data },
  };
}

const MAX_NAME = 80;

function nameOf(job: JobDetail, suffix: string): string {
  return `${job.name.slice(0, MAX_NAME - suffix.length - 1)}-${suffix}`;
}
