import { useQuery } from "@tanstack/react-query";
import { Button, Card, Skeleton } from "antd";
import { Link } from "react-router";
import { api, take, type Schemas, type Score } from "../../api/client";
import { percent, points } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { RunDot } from "../../ui/RunDot";

const SIGNIFICANT = 0.05;

/** Two evaluations of the same problems: what got better, what got worse, and whether that can be chance. */
export function Comparison({ baseline, candidate, swap }: { baseline: number; candidate: number; swap?: () => void }) {
  const t = useT();
  const found = useQuery({
    queryKey: ["compare", baseline, candidate],
    queryFn: () => take(api.GET("/api/evaluations/compare", { params: { query: { baseline, candidate } } })),
  });
  if (found.error && !found.data) return <div className="card"><ErrorCard error={found.error} retry={() => void found.refetch()} /></div>;
  if (!found.data) return <Card size="small" className="card"><Skeleton active paragraph={{ rows: 2 }} /></Card>;
  const data = found.data;
  const [low = 0, high = 0] = data.difference_interval;
  const isDistinct = data.p_value < SIGNIFICANT;
  return (
    <Card
      size="small"
      className="card"
      data-testid="comparison"
      title={<span className="cell-line"><Side score={data.baseline} /> → <Side score={data.candidate} /></span>}
      extra={swap ? <Button size="small" onClick={swap}>{t("eval.swap")}</Button> : <Link to={`/evaluate?baseline=${baseline}&candidate=${candidate}`}>{t("nav.evaluate")}</Link>}
    >
      <div className="verdict">
        <b>{t("eval.difference", { diff: points(data.difference), low: points(low), high: points(high) })}</b>{" "}
        {t("eval.p", { p: data.p_value < 0.0001 ? "< 0.0001" : `= ${data.p_value.toPrecision(3)}` })}{" "}
        <b>{isDistinct ? t("eval.distinct") : t("eval.notDistinct")}</b>
      </div>
      <DifferenceBar difference={data.difference} low={low} high={high} />
      <SplitBar data={data} />
    </Card>
  );
}

function Side({ score }: { score: Score }) {
  return (
    <span className="cell-line">
      <RunDot jobId={score.job_id} />
      <Link to={`/runs/${score.job_id}?tab=samples`}>{score.job_name} #{score.job_id}</Link> {percent(score.accuracy)}
    </span>
  );
}

/** The interval of the difference around zero, to scale. */
function DifferenceBar({ difference, low, high }: { difference: number; low: number; high: number }) {
  const reach = Math.max(Math.abs(low), Math.abs(high), 0.01) * 1.1;
  const at = (value: number) => `${50 + (50 * value) / reach}%`;
  return (
    <div className="difference" aria-hidden>
      <span className="zero" />
      <span className="range" style={{ left: at(low), width: `${(50 * (high - low)) / reach}%` }} />
      <span className="point" style={{ left: at(difference) }} />
      <span className="end" style={{ left: 0 }}>{points(-reach)}</span>
      <span className="end" style={{ right: 0 }}>{points(reach)}</span>
    </div>
  );
}

/** Every shared problem by what became of it. */
function SplitBar({ data }: { data: Omit<Schemas["ComparisonView"], "baseline" | "candidate" | "difference_interval"> }) {
  const t = useT();
  const shares = [
    { label: t("eval.bothRight"), count: data.both_correct, colour: "#56B4E9" },
    { label: t("eval.improved"), count: data.improved, colour: "#009E73" },
    { label: t("eval.regressed"), count: data.regressed, colour: "#E69F00" },
    { label: t("eval.bothWrong"), count: data.both_wrong, colour: "#8a9499" },
  ];
  return (
    <>
      <div className="split" aria-hidden>
        {shares.map(({ label, count, colour }) => <span key={label} style={{ flexGrow: count, background: colour }} />)}
      </div>
      <div className="legend">
        {shares.map(({ label, count, colour }) => (
          <span key={label}><span className="run-dot" style={{ background: colour }} aria-hidden /> {label} <b>{count}</b></span>
        ))}
        <span className="quiet">{t("eval.shared", { n: data.num_shared })}</span>
      </div>
    </>
  );
}
