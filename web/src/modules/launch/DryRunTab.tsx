import { useQuery } from "@tanstack/react-query";
import { Alert, Button, Card, Skeleton, Table, Typography } from "antd";
import { useState } from "react";
import { api, take, type Schemas } from "../../api/client";
import { bytes, number, whole } from "../../app/format";
import { useT, type Key } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { ProblemList } from "./Problems";

type Rehearsed = Schemas["DryRunJob"];

const AVAILABILITY: Record<Rehearsed["inputs"][number]["availability"], Key> = {
  ready: "launch.dry.ready",
  download: "launch.dry.download",
  build: "launch.dry.build",
  later: "launch.dry.later",
};

/** What submitting would do: what each reference stands for now, how much work it is, what is wrong. */
export function DryRunTab({ text }: { text: string }) {
  const t = useT();
  const [asked, setAsked] = useState(text);
  const found = useQuery({
    queryKey: ["dry-run", asked],
    queryFn: () => take(api.POST("/api/jobs/dry-run", { body: { text: asked } })),
    staleTime: Infinity,
    gcTime: 0,
  });
  const again = () => {
    if (asked === text) void found.refetch();
    else setAsked(text);
  };
  return (
    <div className="stack">
      <div className="bar" style={{ marginBottom: 0 }}>
        <Button onClick={again} loading={found.isFetching} data-testid="dry-run">{t("launch.dry.again")}</Button>
        <span className="quiet">{asked === text ? t("launch.dry.why") : t("launch.dry.stale")}</span>
      </div>
      {found.isLoading && <Skeleton active />}
      {found.error && <ErrorCard error={found.error} retry={again} />}
      {found.data && (
        <>
          {found.data.is_valid && <Alert type="success" title={t("launch.dry.fine")} data-testid="dry-run-fine" />}
          {found.data.problems.length > 0 && <ProblemList problems={found.data.problems} />}
          {found.data.jobs.map((job) => <JobCard key={job.name} job={job} />)}
        </>
      )}
    </div>
  );
}

function JobCard({ job }: { job: Rehearsed }) {
  const t = useT();
  const facts: [Key, string | null][] = [
    ["launch.dry.steps", job.num_steps === null ? null : whole(job.num_steps)],
    ["launch.dry.rowsPerStep", job.rows_per_step === null ? null : whole(job.rows_per_step)],
    ["launch.dry.completions", job.completions_per_step === null ? null : whole(job.completions_per_step)],
    ["launch.dry.rows", job.num_rows === null ? null : whole(job.num_rows)],
    ["launch.dry.epochs", job.epochs === null ? null : number(job.epochs, 3)],
  ];
  return (
    <Card size="small" title={job.name} data-testid={`dry-run-${job.name}`}>
      <dl className="values">
        {facts.filter(([, value]) => value !== null).map(([key, value]) => <div key={key}><dt>{t(key)}</dt><dd>{value}</dd></div>)}
      </dl>
      <Table
        size="small"
        rowKey={(row) => row.role + row.ref}
        pagination={false}
        style={{ marginTop: 8 }}
        dataSource={job.inputs}
        columns={[
          { title: t("col.input"), render: (_, row) => <code>{row.ref}</code> },
          { title: t("runs.kind"), dataIndex: "kind", width: 84 },
          { title: t("runs.state"), width: 130, render: (_, row) => t(AVAILABILITY[row.availability]) },
          { title: t("col.size"), width: 76, render: (_, row) => row.num_bytes !== null && bytes(row.num_bytes) },
          { title: t("col.hash"), width: 112, render: (_, row) => row.sha256 && <Typography.Text copyable={{ text: row.sha256 }}><code>{row.sha256.slice(0, 8)}</code></Typography.Text> },
        ]}
      />
    </Card>
  );
}
