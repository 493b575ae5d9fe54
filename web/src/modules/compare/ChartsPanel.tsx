import { Input, Segmented, Skeleton, Slider, Switch } from "antd";
import { useDeferredValue, useMemo, useState } from "react";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { FAMILIES, family, type Family } from "../monitoring/series";
import { span, unionOfMetrics, type Known, type RunLines, type Span } from "./logic";
import { OverlayCard } from "./OverlayCard";
import { useView, type Change } from "./useView";

const CLOSED_AT_FIRST = "native";
const NONE = "none";

/** One chart per metric, with all runs in it. */
export function ChartsPanel({ runs, isLoading }: { runs: Known[]; isLoading: boolean }) {
  const t = useT();
  const [view, change] = useView();
  const filter = view.get("metric") ?? "";
  const deferredFilter = useDeferredValue(filter);
  const found = useMemo(
    () => unionOfMetrics(runs.map(({ id, job, lines }) => ({ id, name: `${job.name} #${id}`, lines })), deferredFilter),
    [runs, deferredFilter],
  );
  const clock = useMemo(() => span(runs), [runs]);
  const sections = FAMILIES.map((name) => [name, found.metrics.filter(([metric]) => family(metric) === name)] as const).filter(([, own]) => own.length > 0);
  const hasLines = runs.some((run) => run.lines.size > 0);
  if (!hasLines) return isLoading ? <Skeleton active /> : <EmptyState text={t("compare.noMetrics")} />;
  const closed = (view.get("closed") ?? CLOSED_AT_FIRST).split(",");
  const toggle = (name: Family) => {
    const next = closed.includes(name) ? closed.filter((other) => other !== name) : [...closed, name];
    change({ closed: next.filter((other) => other !== NONE).join(",") || NONE });
  };
  return (
    <>
      <Controls view={view} change={change} clock={clock} isPlainText={found.isPlainText} />
      {sections.length === 0 && <EmptyState text={t("compare.noMatch")} />}
      {sections.map(([name, metrics]) => (
        <Section key={name} name={name} metrics={metrics} isClosed={closed.includes(name)} toggle={() => toggle(name)} view={view} clock={clock} />
      ))}
    </>
  );
}

interface SectionProps {
  name: Family;
  metrics: [string, RunLines[]][];
  isClosed: boolean;
  toggle: () => void;
  view: URLSearchParams;
  clock: Span;
}

function Section({ name, metrics, isClosed, toggle, view, clock }: SectionProps) {
  const t = useT();
  return (
    <section className="card">
      <button type="button" className="family" aria-expanded={!isClosed} onClick={toggle}>
        {isClosed ? "▸" : "▾"} {t(`family.${name}`)} <span className="quiet">{metrics.length}</span>
      </button>
      {!isClosed && (
        <div className="charts compare-charts">
          {metrics.map(([metric, runs]) => (
            <OverlayCard key={metric} metric={metric} runs={runs} clock={clock} isTime={isTimeIn(view)} isLog={view.get("log") === "1"} smoothing={smoothingIn(view)} />
          ))}
        </div>
      )}
    </section>
  );
}

const MOST_SMOOTHING = 0.99;

const isTimeIn = (view: URLSearchParams) => view.get("x") === "time";

function smoothingIn(view: URLSearchParams): number {
  const value = Number(view.get("smooth") ?? "0");
  return Number.isFinite(value) ? Math.min(MOST_SMOOTHING, Math.max(0, value)) : 0;
}

interface ControlsProps {
  view: URLSearchParams;
  change: Change;
  clock: Span;
  isPlainText: boolean;
}

function Controls({ view, change, clock, isPlainText }: ControlsProps) {
  const t = useT();
  return (
    <div className="bar">
      <FilterField value={view.get("metric") ?? ""} change={(value) => change({ metric: value })} />
      {isPlainText && <span className="quiet" role="status" data-testid="compare-filter-problem">{t("compare.plainText")}</span>}
      <span aria-hidden>{t("charts.smoothing")}</span>
      <Slider
        ariaLabelForHandle={t("charts.smoothing")}
        min={0}
        max={MOST_SMOOTHING}
        step={0.01}
        value={smoothingIn(view)}
        onChange={(value) => change({ smooth: value ? String(value) : null })}
        style={{ width: 160 }}
      />
      <Segmented
        aria-label={t("charts.axis")}
        value={isTimeIn(view) ? "time" : "step"}
        onChange={(value) => change({ x: value === "time" ? "time" : null })}
        options={[{ value: "step", label: t("charts.step") }, { value: "time", label: t("compare.elapsed", { unit: clock.unit.name }) }]}
      />
      <label className="cell-line">
        <Switch size="small" aria-label={t("charts.logY")} checked={view.get("log") === "1"} onChange={(isOn) => change({ log: isOn ? "1" : null })} />
        {t("charts.logY")}
      </label>
      <span className="quiet">{t("charts.hint")}</span>
    </div>
  );
}

/** Keeps its own text, so that typing never waits for the address. */
function FilterField({ value, change }: { value: string; change: (value: string) => void }) {
  const t = useT();
  const [text, setText] = useState(value);
  return (
    <Input
      allowClear
      data-testid="compare-filter"
      aria-label={t("compare.filter")}
      placeholder={t("compare.filter")}
      value={text}
      onChange={(event) => {
        setText(event.target.value);
        change(event.target.value);
      }}
      style={{ width: 260 }}
    />
  );
}
