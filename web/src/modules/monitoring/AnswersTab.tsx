import { useQuery } from "@tanstack/react-query";
import { Segmented, Space, Table, Tag } from "antd";
import { useState } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";

const PAGE = 50;

/** Answered problems of an evaluation. */
export function AnswersTab({ job, newest }: { job: JobDetail; newest: number }) {
  const t = useT();
  const [only, setOnly] = useState<"all" | "wrong" | "right">("all");
  const [page, setPage] = useState(1);
  const found = useQuery({
    queryKey: ["answers", job.id, only, page, newest, job.state],
    queryFn: () =>
      take(api.GET("/api/evaluations/{job_id}/samples", { params: { path: { job_id: job.id }, query: { only, offset: (page - 1) * PAGE, limit: PAGE } } })),
    placeholderData: (before) => before,
  });
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (!found.data) return <EmptyState text={t("samples.empty")} />;
  return (
    <>
      <Space className="bar">
        <Segmented
          value={only}
          onChange={(value) => {
            setOnly(value);
            setPage(1);
          }}
          options={(["all", "wrong", "right"] as const).map((value) => ({ value, label: t(`samples.${value}`) }))}
        />
        {t("samples.showing", { shown: found.data.samples.length, total: found.data.num_samples })}
      </Space>
      <Table
        size="small"
        rowKey="index"
        dataSource={found.data.samples}
        scroll={{ x: 900 }}
        pagination={{ pageSize: PAGE, current: page, total: found.data.num_samples, onChange: setPage, showSizeChanger: false }}
        onRow={() => ({ "data-testid": "sample-row" }) as object}
        columns={[
          { title: "#", dataIndex: "index", width: 64 },
          { title: t("samples.prompt"), render: (_, row) => <div className="text">{row.prompt}</div> },
          { title: t("samples.completion"), render: (_, row) => <div className="text mono">{row.completion}</div> },
          { title: t("samples.target"), dataIndex: "target", width: 110 },
          { title: t("samples.answer"), dataIndex: "answer", width: 110 },
          {
            title: t("samples.correct"),
            width: 110,
            render: (_, row) => <Tag color={row.correct ? "green" : undefined}>{row.correct ? t("samples.right") : t("samples.wrong")}</Tag>,
          },
        ]}
      />
    </>
  );
}
