import { Button, Space, Table, Tag, Typography } from "antd";
import { useNavigate } from "react-router";
import type { JobDetail } from "../../api/client";
import { bytes, specYaml, whole } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { RelativeTime } from "../../ui/RelativeTime";

type Checkpoint = JobDetail["checkpoints"][number];

/** What the run has saved: what to name it by, how large it is, and what can be done with it. */
export function CheckpointsTab({ job }: { job: JobDetail }) {
  const t = useT();
  const isGuest = useIsGuest();
  const navigate = useNavigate();
  if (job.checkpoints.length === 0) return <EmptyState text={t("checkpoints.empty")} />;
  const newest = job.checkpoints.at(-1);
  const total = job.checkpoints.reduce((sum, one) => sum + one.num_bytes, 0);
  const launch = (spec: object) => void navigate("/launch", { state: { text: specYaml(spec) } });
  return (
    <>
      <p className="quiet">
        {t("checkpoints.total", { n: job.checkpoints.length, size: bytes(total) })}{" "}
        {job.num_deleted_checkpoints > 0 && t("checkpoints.deleted", { n: job.num_deleted_checkpoints })}
      </p>
      <Table<Checkpoint>
        size="small"
        rowKey={(row) => `${row.attempt}/${row.step}`}
        pagination={job.checkpoints.length > 50 ? { pageSize: 50, showSizeChanger: false } : false}
        dataSource={[...job.checkpoints].reverse()}
        columns={[
          { title: t("col.step"), width: 110, render: (_, row) => <>{whole(row.step)} {row === newest && <Tag>{t("checkpoints.newest")}</Tag>}</> },
          { title: t("col.reference"), render: (_, row) => <Typography.Text copyable={{ text: row.ref }}><code>{row.ref}</code></Typography.Text> },
          { title: t("col.attempt"), dataIndex: "attempt", width: 90 },
          { title: t("col.size"), width: 100, render: (_, row) => bytes(row.num_bytes) },
          { title: t("col.saved"), width: 130, render: (_, row) => <RelativeTime moment={row.created_at} /> },
          ...(isGuest ? [] : [{
            title: t("checkpoints.use"),
            width: 300,
            render: (_: unknown, row: Checkpoint) => (
              <Space>
                <Button size="small" onClick={() => launch(trainFrom(job, row))} data-testid={`train-from-${row.step}`}>{t("checkpoints.train")}</Button>
                <Button size="small" onClick={() => launch(evaluation(job, row))} data-testid={`evaluate-${row.step}`}>{t("checkpoints.evaluate")}</Button>
                <Button size="small" onClick={() => void navigate(`/chat?${new URLSearchParams({ a: row.ref }).toString()}`)} data-testid={`chat-${row.step}`}>{t("checkpoints.chat")}</Button>
              </Space>
            ),
          }]),
        ]}
      />
    </>
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
