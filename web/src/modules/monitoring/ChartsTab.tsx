import { Skeleton } from "antd";
import { useCallback, useDeferredValue, useMemo } from "react";
import type { JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { asText, type Stretch } from "../../ui/stretch";
import { AXES } from "./axis";
import { ChartControls } from "./ChartControls";
import { FullChart } from "./FullChart";
import { MetricCard } from "./MetricCard";
import { MetricChart } from "./MetricChart";
import { byMetric, inFamilies, type Lines } from "./series";
import { useColumns } from "./useColumns";
import { useLook } from "./useLook";
import { useScale } from "./useScale";
import { toggled, viewOf } from "./view";

interface Props {
  job: JobDetail;
  lines: Lines;
  error: unknown;
  isLoading: boolean;
}

const CHART_HEIGHT = 180;

/** Charts in sections by family. All settings, the zoom and the chart on the whole screen live in the address. */
export function ChartsTab({ job, lines, error, isLoading }: Props) {
  const t = useT();
  const [address, change] = useView();
  const text = address.toString();
  const view = useMemo(() => viewOf(new URLSearchParams(text)), [text]);
  const look = useLook(text);
  const [box, numColumns] = useColumns();
  const { scale, unit, hasTokens } = useScale(job.id, lines, view.axis);
  const filter = useDeferredValue(view.filter);
  const sections = useMemo(() => inFamilies(byMetric(lines, filter)), [lines, filter]);
  const zoom = useCallback((stretch: Stretch | null) => change({ zoom: stretch && asText(stretch) }), [change]);
  const show = useCallback((metric: string | null) => change({ chart: metric }), [change]);
  if (error && lines.size === 0) return <ErrorCard error={error} />;
  if (lines.size === 0) return isLoading ? <Skeleton active /> : <EmptyState text={t("charts.empty")} />;
  const metrics = sections.flatMap(([, own]) => own);
  const full = metrics.find(([metric]) => metric === view.full);
  const common = { jobId: job.id, jobName: job.name, look, scale, zoom };
  return (
    <>
      <ChartControls view={view} change={change} axes={AXES} unit={unit} hasTokens={hasTokens} />
      {sections.length === 0 && <EmptyState text={t("charts.noMatch")} />}
      <div ref={box} className="charts" style={{ gridTemplateColumns: `repeat(${numColumns}, minmax(0, 1fr))` }}>
        {sections.map(([name, own]) => {
          const isClosed = view.closed.includes(name);
          const span = Math.min(numColumns, isClosed ? 1 : own.length);
          return (
            <section key={name} style={{ gridColumn: `span ${span}` }}>
              <button type="button" className="family" aria-expanded={!isClosed} onClick={() => change({ closed: toggled(view.closed, name) })}>
                {isClosed ? "▸" : "▾"} {t(`family.${name}`)} <span className="quiet">{own.length}</span>
              </button>
              {!isClosed && (
                <div className="charts" style={{ gridTemplateColumns: `repeat(${span}, minmax(0, 1fr))` }}>
                  {own.map(([metric, found]) => <MetricCard key={metric} metric={metric} lines={found} height={CHART_HEIGHT} open={show} {...common} />)}
                </div>
              )}
            </section>
          );
        })}
      </div>
      {full && (
        <FullChart title={`${job.name} #${job.id}`} metric={full[0]} metrics={metrics.map(([metric]) => metric)} show={show}>
          {(height) => <MetricChart key={full[0]} metric={full[0]} lines={full[1]} height={height} {...common} />}
        </FullChart>
      )}
    </>
  );
}
