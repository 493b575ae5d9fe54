import { Card, Table, Typography } from "antd";
import { useMemo } from "react";
import type { JobDetail } from "../../api/client";
import { number, specYaml } from "../../app/format";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { CodeCard } from "./CodeCard";
import { EffectiveCard } from "./EffectiveCard";
import { EnvironmentCard } from "./EnvironmentCard";
import { FailureCard } from "./FailureCard";
import { LiveSettings } from "./LiveSettings";
import { NotesCard } from "./NotesCard";
import { PolicyTable } from "./PolicyTable";
import { otherValues } from "./progress";
import { RecipeCard } from "./RecipeCard";

/** What the run is made of: job file, attempts, inputs, code, environment. */
export function OverviewTab({ job }: { job: JobDetail }) {
  const t = useT();
  const spec = useMemo(() => specYaml(job.spec), [job.spec]);
  return (
    <>
      {(job.state === "failed" || job.state === "lost") && <FailureCard job={job} />}
      {job.kind === "compare" && job.state === "completed" && <PolicyTable job={job} />}
      <div className="grid-2">
        <Card size="small" title={t("overview.spec")} extra={<Typography.Text copyable={{ text: spec }}>{t("overview.copy")}</Typography.Text>}>
          <pre data-testid="spec">{spec}</pre>
        </Card>
        <div className="stack">
          {job.state === "running" && job.controls && <LiveSettings job={job} controls={job.controls} />}
          <EffectiveCard job={job} />
          <NotesCard job={job} />
          <RecipeCard job={job} />
          {Object.keys(job.last_values).length > 0 && <ValuesCard job={job} />}
          <Card size="small" title={t("overview.attempts")}><AttemptsTable job={job} /></Card>
          <InputsCard job={job} />
          <CodeCard code={job.code} />
          <EnvironmentCard provenance={job.provenance} />
        </div>
      </div>
    </>
  );
}

function ValuesCard({ job }: { job: JobDetail }) {
  const t = useT();
  return (
    <Card size="small" title={t("overview.values")}>
      <dl className="values">
        {otherValues(job).map(([name, value]) => (
          <div key={name}><dt>{name}</dt><dd>{number(value)}</dd></div>
        ))}
      </dl>
    </Card>
  );
}

function AttemptsTable({ job }: { job: JobDetail }) {
  const t = useT();
  if (job.attempts.length === 0) return <>{t("overview.noAttempts")}</>;
  return (
    <Table
      size="small"
      rowKey="number"
      pagination={false}
      dataSource={[...job.attempts].reverse()}
      columns={[
        { title: t("col.attempt"), dataIndex: "number", width: 72 },
        { title: t("col.started"), width: 100, render: (_, row) => <RelativeTime moment={row.started_at} /> },
        { title: t("col.ended"), width: 100, render: (_, row) => <RelativeTime moment={row.ended_at} /> },
        { title: t("col.from"), width: 120, render: (_, row) => row.resumed_from && <code>{row.resumed_from}</code> },
        { title: t("col.exit"), width: 84, render: (_, row) => row.signal ?? row.exit_code },
        { title: t("col.cause"), dataIndex: "cause" },
      ]}
    />
  );
}

function InputsCard({ job }: { job: JobDetail }) {
  const t = useT();
  const inputs = Object.entries(job.inputs as Record<string, { kind?: string; sha256?: string; ref?: string }>);
  if (inputs.length === 0) return null;
  return (
    <Card size="small" title={t("overview.inputs")}>
      <Table
        size="small"
        rowKey={([ref]) => ref}
        pagination={false}
        dataSource={inputs}
        columns={[
          { title: t("col.input"), render: (_, [ref]) => <code>{ref}</code> },
          { title: t("runs.kind"), width: 90, render: (_, [, input]) => input.kind },
          { title: t("col.hash"), width: 190, render: (_, [, input]) => input.sha256 && <Typography.Text copyable={{ text: input.sha256 }}><code>{input.sha256.slice(0, 16)}</code></Typography.Text> },
        ]}
      />
    </Card>
  );
}
