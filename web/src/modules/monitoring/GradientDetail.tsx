import { CloseOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Button, Skeleton } from "antd";
import { useMemo } from "react";
import { api, take, type JobDetail, type Schemas } from "../../api/client";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { Chart } from "../../ui/Chart";
import type { ChartLine } from "../../ui/chartOptions";
import { paletteColour, runColour } from "../../ui/colours";
import { ErrorCard } from "../../ui/ErrorCard";
import { HistogramPlot } from "./HistogramPlot";
import type { GradientView } from "./gradientView";
import { METRICS, type By, type Metric } from "./heat";
import { useAtMostEvery } from "./useGradients";

const HEIGHT = 220;
const MAX_COLUMNS = 600;
const PAUSE_MS = 2000;
const PERCENTILES: Metric[] = ["p1", "p5", "p25", "p50", "p75", "p95", "p99"];

interface Props {
  job: JobDetail;
  view: GradientView;
  cell: { name: string; step: number };
  newest: number;
  otherName: string;
  close: () => void;
}

/** One tensor, layer or group: its histogram and numbers at a step, and its history. */
export function GradientDetail({ job, view, cell, newest, otherName, close }: Props) {
  const t = useT();
  const { by, metric, other, stretch } = view;
  const histogram = useQuery({
    queryKey: ["gradients", job.id, "histogram", by, cell.name, cell.step],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/gradients/histogram", { params: { path: { job_id: job.id }, query: { by, ...cell } } })),
    placeholderData: (before) => before,
  });
  const own = useHistory(job.id, by, cell.name, stretch, useAtMostEvery(newest, PAUSE_MS));
  const beside = useHistory(other, by, cell.name, stretch, 0);
  const history = useMemo(
    () => [
      ...(own.data ? [lineOf(own.data, metric, `${job.name} #${job.id}`, runColour(job.id))] : []),
      ...(other !== null && beside.data ? [lineOf(beside.data, metric, otherName, runColour(other))] : []),
    ],
    [own.data, beside.data, other, otherName, metric, job.id, job.name],
  );
  const percentiles = useMemo(
    () => (own.data ? PERCENTILES.map((one, index) => lineOf(own.data, one, t(`gradient.${one}`), paletteColour(index))) : []),
    [own.data, t],
  );
  const title = t("gradients.history", { metric: t(`gradient.${metric}`) });
  const chart = { bands: [], isTime: false, isLog: false, stretch, group: `gradients-${job.id}`, height: HEIGHT };
  return (
    <div data-testid="gradient-detail" className="gradient-about">
      <div className="chart-title">
        <b title={cell.name}>{t(`gradients.one.${by}`, { name: cell.name })}</b>
        <Button type="text" size="small" icon={<CloseOutlined />} aria-label={t("gradients.close")} onClick={close} />
      </div>
      <div className="gradient-detail">
        <section>
          <h3>{t("gradients.histogram", { step: whole(cell.step) })}</h3>
          {histogram.error && <ErrorCard error={histogram.error} />}
          {!histogram.error && (histogram.data ? <HistogramPlot histogram={histogram.data} height={HEIGHT} /> : <Skeleton active />)}
        </section>
        <section>
          <h3>{title}</h3>
          {history.length > 1 && <Legend lines={history} />}
          {own.error ? <ErrorCard error={own.error} /> : <Chart {...chart} lines={history} isLog={isWide(history)} testId="gradient-history" label={title} />}
        </section>
        <section>
          <h3>{t("gradients.percentiles")}</h3>
          <Legend lines={percentiles} />
          <Chart {...chart} lines={percentiles} testId="gradient-percentiles" label={t("gradients.percentiles")} />
        </section>
        {histogram.data && !histogram.error && (
          <section>
            <h3>{t("gradients.numbers", { step: whole(histogram.data.step) })}</h3>
            <dl className="figure-list">
              {METRICS.map((one) => <div key={one}><dt>{t(`gradient.${one}`)}</dt><dd>{number(histogram.data.statistics[one])}</dd></div>)}
            </dl>
          </section>
        )}
      </div>
    </div>
  );
}

function Legend({ lines }: { lines: ChartLine[] }) {
  return (
    <div className="line-names">
      {lines.map(({ name, colour }) => <span key={name}><i aria-hidden style={{ background: colour }} />{name}</span>)}
    </div>
  );
}

function useHistory(jobId: number | null, by: By, name: string, stretch: GradientView["stretch"], newest: number) {
  const query = {
    by,
    name,
    from_step: stretch ? Math.floor(stretch.from) : undefined,
    to_step: stretch ? Math.ceil(stretch.to) : undefined,
    max_columns: MAX_COLUMNS,
  };
  return useQuery({
    queryKey: ["gradients", jobId, "series", query, newest],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/gradients/series", { params: { path: { job_id: jobId ?? 0 }, query } })),
    enabled: jobId !== null,
    placeholderData: (before) => before,
  });
}

function lineOf(series: Schemas["GradientSeries"], metric: Metric, name: string, colour: string): ChartLine {
  const values = series.values[metric] ?? [];
  const kept = values.flatMap((value, index) => (value === null ? [] : [index]));
  const shown = kept.map((index) => values[index] ?? NaN);
  return { name, x: kept.map((index) => series.columns[index]?.last_step ?? 0), raw: shown, shown, colour, isOld: false };
}

/** Positive, and over more than two powers of ten. */
function isWide(lines: ChartLine[]): boolean {
  const values = lines.flatMap((line) => line.raw);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least > 0 && most > 100 * least;
}
