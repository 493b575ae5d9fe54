import { useQuery } from "@tanstack/react-query";
import { Card, Radio, Table, Tooltip } from "antd";
import { Link, useSearchParams } from "react-router";
import { api, take, type Schemas } from "../../api/client";
import { useT } from "../../app/i18n";
import { runColour } from "../../ui/colours";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";

type Score = Schemas["ScoreView"];

const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
const points = (value: number) => `${value >= 0 ? "+" : ""}${(100 * value).toFixed(1)}`;

/** Scores with their intervals; two of them compared problem by problem. The choice lives in the address. */
export default function EvaluatePage() {
  const t = useT();
  const [view, setView] = useSearchParams();
  const scores = useQuery({ queryKey: ["scores"], queryFn: () => take(api.GET("/api/evaluations")) });
  const rows = (scores.data?.scores ?? []) as Score[];
  const baseline = Number(view.get("baseline") ?? 0);
  const candidate = Number(view.get("candidate") ?? 0);
  const pick = (name: string, value: number) => {
    const next = new URLSearchParams(view);
    next.set(name, String(value));
    setView(next, { replace: true });
  };
  return (
    <div className="page">
      <div className="page-title"><h1>{t("eval.title")}</h1></div>
      {scores.error && !scores.data && <ErrorCard error={scores.error} retry={() => void scores.refetch()} />}
      {scores.data && rows.length === 0 && <EmptyState text={t("eval.empty")} command="finery jobs submit recipes/tiny_evaluate.yaml" />}
      {rows.length > 0 && (
        <>
          <p>{t("eval.pick")}</p>
          <Table
            size="small"
            rowKey="job_id"
            dataSource={rows}
            pagination={false}
            scroll={{ x: 900 }}
            columns={[
              { title: t("eval.baseline"), width: 90, render: (_, row) => <Radio aria-label={`${t("eval.baseline")} ${row.job_id}`} checked={row.job_id === baseline} onChange={() => pick("baseline", row.job_id)} /> },
              { title: t("eval.candidate"), width: 90, render: (_, row) => <Radio aria-label={`${t("eval.candidate")} ${row.job_id}`} checked={row.job_id === candidate} onChange={() => pick("candidate", row.job_id)} /> },
              { title: t("runs.name"), render: (_, row) => <Link to={`/runs/${row.job_id}?tab=samples`}>{row.job_name} #{row.job_id}</Link> },
              { title: t("runs.model"), dataIndex: "model" },
              { title: t("eval.accuracy"), width: 340, render: (_, row) => <IntervalBar score={row} /> },
              { title: t("eval.problems"), dataIndex: "num_samples", width: 90 },
            ]}
          />
        </>
      )}
      {baseline > 0 && candidate > 0 && baseline !== candidate && <Comparison baseline={baseline} candidate={candidate} />}
    </div>
  );
}

function IntervalBar({ score }: { score: Score }) {
  const [low = 0, high = 1] = score.interval;
  return (
    <Tooltip title={`${percent(low)} – ${percent(high)}`}>
      <div style={{ display: "flex", gap: 10, alignItems: "center" }}>
        <div style={{ position: "relative", height: 12, width: 200, background: "rgba(128,128,128,0.18)", borderRadius: 3 }}>
          <div style={{ position: "absolute", left: `${100 * low}%`, width: `${100 * (high - low)}%`, top: 3, height: 6, background: runColour(score.job_id), opacity: 0.45, borderRadius: 3 }} />
          <div style={{ position: "absolute", left: `calc(${100 * score.accuracy}% - 1px)`, width: 3, height: 12, background: runColour(score.job_id) }} />
        </div>
        <b>{percent(score.accuracy)}</b>
      </div>
    </Tooltip>
  );
}

function Comparison({ baseline, candidate }: { baseline: number; candidate: number }) {
  const t = useT();
  const found = useQuery({
    queryKey: ["compare", baseline, candidate],
    queryFn: () => take(api.GET("/api/evaluations/compare", { params: { query: { baseline, candidate } } })),
  });
  if (found.error) return <div style={{ marginTop: 12 }}><ErrorCard error={found.error} /></div>;
  if (!found.data) return null;
  const data = found.data;
  const [low = 0, high = 0] = data.difference_interval;
  const counts = [
    [t("eval.improved"), data.improved],
    [t("eval.regressed"), data.regressed],
    [t("eval.bothRight"), data.both_correct],
    [t("eval.bothWrong"), data.both_wrong],
  ] as const;
  return (
    <Card size="small" style={{ marginTop: 12 }} data-testid="comparison" title={`#${baseline} → #${candidate}`}>
      <p><b>{t("eval.difference", { diff: points(data.difference), low: points(low), high: points(high) })}</b></p>
      <p>{t("eval.p", { p: data.p_value.toPrecision(3) })} {data.p_value < 0.05 ? t("eval.distinct") : t("eval.notDistinct")}</p>
      <div style={{ display: "flex", gap: 24, flexWrap: "wrap" }}>
        {counts.map(([label, count]) => <span key={label}>{label}: <b>{count}</b></span>)}
      </div>
    </Card>
  );
}
