import { useQuery } from "@tanstack/react-query";
import { Radio, Skeleton, Table } from "antd";
import { Link, useSearchParams } from "react-router";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { RunDot } from "../../ui/RunDot";
import { Comparison } from "./Comparison";
import { IntervalBar } from "./IntervalBar";

const LIMIT = 1000;
const SIDES = ["baseline", "candidate"] as const;

/** Scores with their intervals; two of them compared problem by problem. The choice lives in the address. */
export default function EvaluatePage() {
  const t = useT();
  const [view, setView] = useSearchParams();
  const scores = useQuery({ queryKey: ["scores"], queryFn: () => take(api.GET("/api/evaluations", { params: { query: { limit: LIMIT } } })) });
  const rows = scores.data?.scores ?? [];
  const baseline = Number(view.get("baseline") ?? 0);
  const candidate = Number(view.get("candidate") ?? 0);
  const choose = (chosen: Partial<Record<(typeof SIDES)[number], number>>) =>
    setView(
      (before) => {
        for (const [name, value] of Object.entries(chosen)) before.set(name, String(value));
        return before;
      },
      { replace: true },
    );
  return (
    <div className="page">
      <div className="page-title"><h1>{t("eval.title")}</h1></div>
      {scores.error && !scores.data && <ErrorCard error={scores.error} retry={() => void scores.refetch()} />}
      {scores.isLoading && <Skeleton active />}
      {scores.data && rows.length === 0 && <EmptyState text={t("eval.empty")} command="finery jobs submit recipes/tiny_evaluate.yaml" />}
      {rows.length > 0 && (
        <>
          {baseline > 0 && candidate > 0 && baseline !== candidate ? (
            <Comparison baseline={baseline} candidate={candidate} swap={() => choose({ baseline: candidate, candidate: baseline })} />
          ) : (
            <p>{t("eval.pick")}</p>
          )}
          <Table
            size="small"
            rowKey="job_id"
            dataSource={rows}
            pagination={rows.length > 100 ? { pageSize: 100, showSizeChanger: false } : false}
            sticky
            scroll={{ x: 960 }}
            columns={[
              ...SIDES.map((side) => ({
                title: t(`eval.${side}`),
                width: 88,
                render: (_: unknown, row: (typeof rows)[number]) => (
                  <Radio
                    name={side}
                    aria-label={`${t(`eval.${side}`)} #${row.job_id}`}
                    data-testid={`${side}-${row.job_id}`}
                    checked={row.job_id === (side === "baseline" ? baseline : candidate)}
                    onChange={() => choose({ [side]: row.job_id })}
                  />
                ),
              })),
              {
                title: t("runs.name"),
                render: (_, row) => <span className="cell-line"><RunDot jobId={row.job_id} /><Link to={`/runs/${row.job_id}?tab=samples`}>{row.job_name} #{row.job_id}</Link></span>,
                sorter: (a, b) => a.job_id - b.job_id,
              },
              { title: t("runs.model"), dataIndex: "model", ellipsis: true },
              { title: t("eval.benchmark"), dataIndex: "benchmark", width: 120 },
              { title: t("eval.accuracy"), width: 370, render: (_, row) => <IntervalBar score={row} />, sorter: (a, b) => a.accuracy - b.accuracy },
              { title: t("eval.problems"), width: 110, align: "end", render: (_, row) => `${row.num_correct} / ${row.num_samples}` },
            ]}
          />
        </>
      )}
    </div>
  );
}
