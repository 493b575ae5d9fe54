import { Card, Collapse, Table, Typography } from "antd";
import type { JobDetail } from "../../api/client";
import { bytes, yaml } from "../../app/format";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";

/** What the run is made of: job file, attempts, checkpoints, inputs, code, surroundings. */
export function OverviewTab({ job }: { job: JobDetail }) {
  const t = useT();
  const spec = yaml(job.spec).trim();
  const inputs = Object.entries(job.inputs as Record<string, { kind: string; sha256: string }>);
  return (
    <div className="grid-2">
      <Card size="small" title={t("overview.spec")} extra={<Typography.Text copyable={{ text: spec }}>{t("overview.copy")}</Typography.Text>}>
        <pre data-testid="spec">{spec}</pre>
      </Card>
      <div style={{ display: "grid", gap: 12, alignContent: "start" }}>
        <Card size="small" title={t("overview.attempts")}>
          <Table
            size="small"
            rowKey="number"
            pagination={false}
            dataSource={job.attempts}
            columns={[
              { title: t("col.attempt"), dataIndex: "number", width: 80 },
              { title: t("col.started"), render: (_, row) => <RelativeTime moment={row.started_at} /> },
              { title: t("col.ended"), render: (_, row) => <RelativeTime moment={row.ended_at} /> },
              { title: t("col.from"), dataIndex: "resumed_from" },
              { title: t("col.cause"), dataIndex: "cause" },
            ]}
          />
        </Card>
        <Card size="small" title={t("overview.checkpoints")}>
          {job.checkpoints.length === 0 ? (
            t("overview.noCheckpoints")
          ) : (
            <Table
              size="small"
              rowKey={(row) => `${row.attempt}/${row.step}`}
              pagination={false}
              dataSource={[...job.checkpoints].reverse()}
              columns={[
                { title: t("col.reference"), render: (_, row) => <Typography.Text copyable code>{row.ref}</Typography.Text> },
                { title: t("col.attempt"), dataIndex: "attempt" },
                { title: t("col.size"), render: (_, row) => bytes(row.num_bytes) },
                { title: t("col.saved"), render: (_, row) => <RelativeTime moment={row.created_at} /> },
              ]}
            />
          )}
        </Card>
        <Card size="small" title={t("overview.inputs")}>
          {inputs.map(([ref, input]) => (
            <div key={ref}>
              <code>{ref}</code> {input.kind} <code>{input.sha256.slice(0, 16)}</code>
            </div>
          ))}
        </Card>
        <Card size="small" title={t("overview.code")}><CodeState code={job.code} /></Card>
        <Card size="small" title={t("overview.environment")}>
          {job.provenance ? <Surroundings provenance={job.provenance} /> : t("overview.notYet")}
        </Card>
      </div>
    </div>
  );
}

function CodeState({ code }: { code: JobDetail["code"] }) {
  const t = useT();
  if (!code?.commit) return <>{t("overview.noCode")}</>;
  const diff = typeof code.diff === "string" ? code.diff : "";
  return (
    <>
      <div>
        <code>{String(code.commit).slice(0, 12)}</code> {String(code.branch ?? "")}, {code.is_dirty ? t("overview.dirty") : t("overview.clean")}
      </div>
      {diff && <Collapse size="small" ghost items={[{ key: "diff", label: "diff", children: <pre>{diff}</pre> }]} />}
    </>
  );
}

function Surroundings({ provenance }: { provenance: NonNullable<JobDetail["provenance"]> }) {
  const packages = (provenance as Record<string, unknown>).packages;
  const rest = Object.fromEntries(Object.entries(provenance).filter(([name]) => name !== "packages" && name !== "code"));
  return (
    <>
      <pre>{yaml(rest).trim()}</pre>
      <Collapse size="small" ghost items={[{ key: "packages", label: "packages", children: <pre>{yaml(packages).trim()}</pre> }]} />
    </>
  );
}
