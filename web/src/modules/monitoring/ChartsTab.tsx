import { Card, Collapse, Input, Segmented, Slider, Space, Switch } from "antd";
import { memo, useMemo } from "react";
import { useSearchParams } from "react-router";
import type { JobDetail } from "../../api/client";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { Chart } from "../../ui/Chart";
import { runColour } from "../../ui/colours";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { FAMILIES, family, figures, smoothed, type Line, type Lines } from "./series";

interface Props {
  job: JobDetail;
  lines: Lines;
  error: unknown;
  isLoading: boolean;
}

/** Charts in sections by family. Smoothing, axis, scale and filter live in the address. */
export function ChartsTab({ job, lines, error, isLoading }: Props) {
  const t = useT();
  const [view, setView] = useSearchParams();
  const weight = Number(view.get("smooth") ?? "0");
  const isLog = view.get("log") === "1";
  const isTime = view.get("x") === "time";
  const filter = view.get("metric") ?? "";
  const change = (name: string, value: string) => {
    const next = new URLSearchParams(view);
    if (value) next.set(name, value);
    else next.delete(name);
    setView(next, { replace: true });
  };
  const metrics = useMemo(() => byMetric(lines, filter), [lines, filter]);
  if (error && lines.size === 0) return <ErrorCard error={error} />;
  if (!isLoading && lines.size === 0) return <EmptyState text={t("charts.empty")} />;
  const sections = FAMILIES.map((name) => ({ name, metrics: [...metrics].filter(([metric]) => family(metric) === name) })).filter(
    (section) => section.metrics.length > 0,
  );
  return (
    <>
      <div className="bar" data-search>
        <Input allowClear aria-label={t("charts.filter")} placeholder={t("charts.filter")} defaultValue={filter} onChange={(event) => change("metric", event.target.value)} style={{ width: 220 }} />
        <span>{t("charts.smoothing")}</span>
        <Slider aria-label={t("charts.smoothing")} min={0} max={0.99} step={0.01} value={weight} onChange={(value) => change("smooth", value ? String(value) : "")} style={{ width: 160 }} />
        <Segmented
          aria-label={t("charts.axis")}
          value={isTime ? "time" : "step"}
          onChange={(value) => change("x", value === "time" ? "time" : "")}
          options={[{ value: "step", label: t("charts.step") }, { value: "time", label: t("charts.time") }]}
        />
        <Space size={6}>
          <Switch size="small" checked={isLog} onChange={(value) => change("log", value ? "1" : "")} aria-label={t("charts.logY")} />
          {t("charts.logY")}
        </Space>
      </div>
      <Collapse
        ghost
        size="small"
        defaultActiveKey={FAMILIES.filter((name) => name !== "native")}
        items={sections.map((section) => ({
          key: section.name,
          label: <b>{t(`family.${section.name}`)}</b>,
          children: (
            <div className="charts">
              {section.metrics.map(([metric, own]) => (
                <MetricCard key={metric} metric={metric} lines={own} jobId={job.id} weight={weight} isLog={isLog} isTime={isTime} />
              ))}
            </div>
          ),
        }))}
      />
    </>
  );
}

interface CardProps {
  metric: string;
  lines: Line[];
  jobId: number;
  weight: number;
  isLog: boolean;
  isTime: boolean;
}

const MetricCard = memo(
  function MetricCard({ metric, lines, jobId, weight, isLog, isTime }: CardProps) {
    const t = useT();
    const found = useMemo(() => figures(lines), [lines]);
    const drawn = useMemo(
      () =>
        lines.map((line) => ({
          name: lines.length > 1 ? `${metric} (${t("run.attempt", { n: line.attempt })})` : metric,
          x: isTime ? line.times.map((time) => 1000 * time) : line.steps,
          raw: line.values,
          shown: smoothed(line.values, weight),
          colour: runColour(jobId + line.attempt - 1),
        })),
      [lines, metric, weight, isTime, jobId, t],
    );
    return (
      <Card size="small" styles={{ body: { padding: "8px 10px" } }}>
        <div className="chart-title">
          <b>{metric}</b>
          <span className="figures">
            {t("charts.last")} {number(found.last)} · {t("charts.min")} {number(found.min)} · {t("charts.max")} {number(found.max)}
          </span>
        </div>
        {found.numNonFinite > 0 && <div style={{ color: "#D55E00", fontSize: 12 }}>{t("charts.nonFinite", { n: found.numNonFinite })}</div>}
        <Chart lines={drawn} isTime={isTime} isLog={isLog} group={`job-${jobId}`} testId={`chart-${metric}`} />
      </Card>
    );
  },
  (before, after) =>
    before.metric === after.metric &&
    before.weight === after.weight &&
    before.isLog === after.isLog &&
    before.isTime === after.isTime &&
    before.lines.length === after.lines.length &&
    before.lines.every((line, index) => line === after.lines[index]),
);

function byMetric(lines: Lines, filter: string): Map<string, Line[]> {
  const found = new Map<string, Line[]>();
  let wanted: RegExp | null = null;
  try {
    wanted = filter ? new RegExp(filter, "i") : null;
  } catch {
    wanted = null;
  }
  for (const line of lines.values()) {
    if (wanted && !wanted.test(line.name)) continue;
    const own = found.get(line.name) ?? [];
    own.push(line);
    found.set(line.name, own);
  }
  return new Map([...found].sort(([a], [b]) => a.localeCompare(b)));
}
