import { Input, Segmented, Skeleton, Slider, Space, Switch } from "antd";
import { useEffect, useMemo, useRef, useState } from "react";
import { useSearchParams } from "react-router";
import type { JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { MetricCard } from "./MetricCard";
import { byMetric, FAMILIES, family, type Family, type Line, type Lines } from "./series";

interface Props {
  job: JobDetail;
  lines: Lines;
  error: unknown;
  isLoading: boolean;
}

const CHART_WIDTH = 350;
const CLOSED_AT_FIRST = "native";

/** Charts in sections by family. Smoothing, axis, scale, filter and closed sections live in the address. */
export function ChartsTab({ job, lines, error, isLoading }: Props) {
  const t = useT();
  const [view, setView] = useSearchParams();
  const smoothing = Number(view.get("smooth") ?? "0");
  const isLog = view.get("log") === "1";
  const isTime = view.get("x") === "time";
  const filter = view.get("metric") ?? "";
  const closed = (view.get("closed") ?? CLOSED_AT_FIRST).split(",");
  const [box, numColumns] = useColumns();
  const change = (name: string, value: string | null) =>
    setView(
      (before) => {
        if (value === null) before.delete(name);
        else before.set(name, value);
        return before;
      },
      { replace: true },
    );
  const sections = useMemo(() => inFamilies(byMetric(lines, filter)), [lines, filter]);
  if (error && lines.size === 0) return <ErrorCard error={error} />;
  if (isLoading) return <Skeleton active />;
  if (lines.size === 0) return <EmptyState text={t("charts.empty")} />;
  const toggle = (name: Family) => {
    const next = closed.includes(name) ? closed.filter((other) => other !== name) : [...closed, name];
    change("closed", next.filter(Boolean).join(","));
  };
  return (
    <>
      <div className="bar" data-search>
        <Input
          allowClear
          aria-label={t("charts.filter")}
          placeholder={t("charts.filter")}
          defaultValue={filter}
          onChange={(event) => change("metric", event.target.value || null)}
          style={{ width: 220 }}
        />
        <span>{t("charts.smoothing")}</span>
        <Slider
          ariaLabelForHandle={t("charts.smoothing")}
          min={0}
          max={0.99}
          step={0.01}
          value={smoothing}
          onChange={(value) => change("smooth", value ? String(value) : null)}
          style={{ width: 160 }}
        />
        <Segmented
          aria-label={t("charts.axis")}
          value={isTime ? "time" : "step"}
          onChange={(value) => change("x", value === "time" ? "time" : null)}
          options={[{ value: "step", label: t("charts.step") }, { value: "time", label: t("charts.time") }]}
        />
        <Space size={6}>
          <Switch size="small" checked={isLog} onChange={(value) => change("log", value ? "1" : null)} aria-label={t("charts.logY")} />
          {t("charts.logY")}
        </Space>
        <span className="quiet">{t("charts.hint")}</span>
      </div>
      <div ref={box} className="charts" style={{ gridTemplateColumns: `repeat(${numColumns}, minmax(0, 1fr))` }}>
        {sections.map(([name, metrics]) => {
          const isClosed = closed.includes(name);
          const span = Math.min(numColumns, isClosed ? 1 : metrics.length);
          return (
            <section key={name} style={{ gridColumn: `span ${span}` }}>
              <button type="button" className="family" aria-expanded={!isClosed} onClick={() => toggle(name)}>
                {isClosed ? "▸" : "▾"} {t(`family.${name}`)} <span className="quiet">{metrics.length}</span>
              </button>
              {!isClosed && (
                <div className="charts" style={{ gridTemplateColumns: `repeat(${span}, minmax(0, 1fr))` }}>
                  {metrics.map(([metric, own]) => (
                    <MetricCard key={metric} metric={metric} lines={own} jobId={job.id} smoothing={smoothing} isLog={isLog} isTime={isTime} />
                  ))}
                </div>
              )}
            </section>
          );
        })}
      </div>
    </>
  );
}

function inFamilies(metrics: [string, Line[]][]): [Family, [string, Line[]][]][] {
  return FAMILIES.map((name): [Family, [string, Line[]][]] => [name, metrics.filter(([metric]) => family(metric) === name)]).filter(
    ([, own]) => own.length > 0,
  );
}

/** How many charts fit beside each other. */
function useColumns() {
  const [box, setBox] = useState<HTMLDivElement | null>(null);
  const [numColumns, setNumColumns] = useState(3);
  const observer = useRef<ResizeObserver | null>(null);
  useEffect(() => {
    if (!box) return;
    observer.current = new ResizeObserver(([entry]) => {
      if (entry) setNumColumns(Math.max(1, Math.floor(entry.contentRect.width / CHART_WIDTH)));
    });
    observer.current.observe(box);
    return () => observer.current?.disconnect();
  }, [box]);
  return [setBox, numColumns] as const;
}
