import { useQuery } from "@tanstack/react-query";
import { Card, Table } from "antd";
import { api, take, type JobDetail } from "../../api/client";
import type { components } from "../../api/schema";
import { bytes, duration, number, percent } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";

type Row = components["schemas"]["PolicyRow"];

/** Outcome of a comparison: a column per model, a row per measure. */
export function PolicyTable({ job }: { job: JobDetail }) {
  const t = useT();
  const found = useQuery({
    queryKey: ["policies", job.id],
    queryFn: () => take(api.GET("/api/evaluations/{job_id}/policies", { params: { path: { job_id: job.id } } })),
  });
  if (found.error) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  const rows = (found.data?.rows ?? []) as Row[]; // the client's types forget the length of a pair that may be null
  const rewards = Object.keys(rows[0]?.rewards ?? {});
  const first = (row: Row) => row.rewards[rewards[0] ?? ""];
  const measures: { name: string; show: (row: Row) => string | null | undefined }[] = [
    { name: t("policies.model"), show: (row) => row.model },
    ...rewards.map((reward) => ({ name: reward, show: (row: Row) => mean(row.rewards[reward]) })),
    { name: t("policies.change", { reward: rewards[0] ?? "" }), show: (row) => signed(first(row)?.change, percent) },
    { name: t("policies.won"), show: (row) => shown(first(row)?.win_rate, percent) },
    { name: t("policies.kl"), show: (row) => shown(row.kl, (value) => number(value, 3)) },
    { name: t("policies.length"), show: (row) => number(row.response_length_mean, 3) },
    { name: t("policies.size"), show: (row) => bytes(row.model_bytes) },
    { name: t("policies.rewardModel"), show: (row) => shown(row.training?.reward_model_bytes, bytes) },
    { name: t("policies.memory"), show: (row) => shown(row.training?.peak_memory_bytes, bytes) },
    { name: t("policies.gain"), show: (row) => signed(row.reward_per_gigabyte, (value) => number(value, 3)) },
    { name: t("policies.time"), show: (row) => shown(row.training?.seconds, duration) },
  ];
  return (
    <Card size="small" title={t("policies.title", { prompts: found.data?.num_prompts ?? 0 })} data-testid="policies" className="policies">
      <Table
        size="small"
        rowKey="name"
        loading={found.isLoading}
        pagination={false}
        scroll={{ x: "max-content" }}
        dataSource={measures}
        columns={[
          { title: "", dataIndex: "name", fixed: "left" as const, width: 200 },
          ...rows.map((row) => ({ title: row.name, key: row.name, render: (_: unknown, measure: (typeof measures)[number]) => measure.show(row) ?? "-" })),
        ]}
      />
    </Card>
  );
}

function mean(found: components["schemas"]["RewardMean"] | undefined): string | null {
  if (!found) return null;
  const [low, high] = found.interval ?? [];
  return low === undefined ? number(found.mean, 3) : `${number(found.mean, 3)} [${number(low, 3)}, ${number(high, 3)}]`;
}

function shown(value: number | null | undefined, show: (value: number) => string): string | null {
  return value === null || value === undefined ? null : show(value);
}

function signed(value: number | null | undefined, show: (value: number) => string): string | null {
  const text = shown(value, show);
  return text !== null && (value ?? 0) > 0 ? `+${text}` : text;
}
