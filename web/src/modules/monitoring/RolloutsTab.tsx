import { useQuery } from "@tanstack/react-query";
import { Select, Space, Table, Tag } from "antd";
import { useState } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";

interface Rollout {
  prompt: string;
  completion: string;
  answer: string | null;
  reward: number;
  rewards: Record<string, number>;
  advantage: number;
  length: number;
  is_truncated: boolean;
  group: number;
}

/** Rollouts of one step with each part of the reward. All text is text. */
export function RolloutsTab({ job, newest }: { job: JobDetail; newest: number }) {
  const t = useT();
  const [step, setStep] = useState<number | undefined>();
  const found = useQuery({
    queryKey: ["samples", job.id, step ?? "newest", step === undefined ? newest : 0],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/samples", { params: { path: { job_id: job.id }, query: { step } } })),
    placeholderData: (before) => before,
  });
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (!found.data || found.data.steps.length === 0) return <EmptyState text={t("samples.empty")} />;
  const rows = found.data.samples.map((sample, index) => ({ ...(sample.record as unknown as Rollout), key: index }));
  const parts = Object.keys(rows[0]?.rewards ?? {});
  const shownStep = step ?? found.data.samples[0]?.step;
  return (
    <>
      <Space className="bar">
        {t("samples.step")}
        <Select
          showSearch
          aria-label={t("samples.step")}
          value={shownStep}
          onChange={setStep}
          style={{ width: 120 }}
          options={[...found.data.steps].reverse().map((value) => ({ value, label: value }))}
        />
      </Space>
      <Table
        size="small"
        dataSource={rows}
        pagination={false}
        scroll={{ x: 1000 }}
        onRow={() => ({ "data-testid": "sample-row" }) as object}
        columns={[
          { title: t("samples.group"), dataIndex: "group", width: 70 },
          { title: t("samples.prompt"), render: (_, row) => <div className="text">{row.prompt}</div> },
          {
            title: t("samples.completion"),
            render: (_, row) => (
              <div className="text mono">
                {row.completion} {row.is_truncated && <Tag>{t("samples.truncated")}</Tag>}
              </div>
            ),
          },
          { title: t("samples.target"), dataIndex: "answer", width: 110 },
          { title: t("samples.reward"), render: (_, row) => <b>{number(row.reward)}</b>, width: 90, sorter: (a, b) => a.reward - b.reward },
          ...parts.map((name) => ({ title: name, width: 100, render: (_: unknown, row: Rollout) => number(row.rewards[name]) })),
          { title: t("samples.advantage"), render: (_, row) => number(row.advantage), width: 100, sorter: (a, b) => a.advantage - b.advantage },
          { title: t("samples.length"), dataIndex: "length", width: 80, sorter: (a, b) => a.length - b.length },
        ]}
      />
    </>
  );
}
