import { Select, Skeleton } from "antd";
import { useCallback, useDeferredValue, useMemo } from "react";
import { useT } from "../../app/i18n";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { asText, type Stretch } from "../../ui/stretch";
import { BY_STEP, clockOf, tokenLines, tokensOf, type Axis, type Clock } from "../monitoring/axis";
import { ChartControls } from "../monitoring/ChartControls";
import { FullChart } from "../monitoring/FullChart";
import { inFamilies } from "../monitoring/series";
import { useLook } from "../monitoring/useLook";
import { toggled, viewOf } from "../monitoring/view";
import { groupKeys, groupsOf } from "./groups";
import { unionOfMetrics, type Known } from "./logic";
import { Overlay, OverlayCard } from "./OverlayCard";
import type { Scales } from "./overlay";

/** Runs of different days have no time of day in common. */
const AXES = ["step", "elapsed", "tokens"] as const;
const FIGURES_HEIGHT = 140;
const ALL_BY_STEP: Scales = new Map();

/** One chart per metric, with all runs in it, or with the means of groups of them. */
export function ChartsPanel({ runs, isLoading }: { runs: Known[]; isLoading: boolean }) {
  const t = useT();
  const [address, change] = useView();
  const text = address.toString();
  const view = useMemo(() => viewOf(new URLSearchParams(text), AXES), [text]);
  const look = useLook(text);
  const filter = useDeferredValue(view.filter);
  const metrics = useMemo(() => unionOfMetrics(runs.map(({ id, job, lines }) => ({ id, name: `${job.name} #${id}`, lines })), filter), [runs, filter]);
  const sections = useMemo(() => inFamilies(metrics), [metrics]);
  const clock = useMemo(() => clockOf(runs), [runs]);
  const hasTokens = useMemo(() => runs.some((run) => tokenLines(run.lines).length > 0), [runs]);
  const axis = view.axis === "tokens" && !hasTokens ? "step" : view.axis;
  const scales = useMemo(() => scalesOf(runs, axis, clock), [runs, axis, clock]);
  const jobs = runs.map((run) => run.id).join(",");
  const group = address.get("group");
  const keys = useMemo(() => groupKeys(runs), [runs]);
  const known = keys.some((one) => one.key === group) ? group : null;
  // Settings of a run never change: the same runs are the same groups.
  // eslint-disable-next-line react-hooks/exhaustive-deps
  const groups = useMemo(() => (known === null ? null : groupsOf(runs, known)), [jobs, known]);
  const zoom = useCallback((stretch: Stretch | null) => change({ zoom: stretch && asText(stretch) }), [change]);
  const show = useCallback((metric: string | null) => change({ chart: metric }), [change]);
  if (!runs.some((run) => run.lines.size > 0)) return isLoading ? <Skeleton active /> : <EmptyState text={t("compare.noMetrics")} />;
  const full = metrics.find(([metric]) => metric === view.full);
  const common = { groups, scales, look, zoom };
  return (
    <>
      <ChartControls view={{ ...view, axis }} change={change} axes={AXES} unit={clock.unit.name} hasTokens={hasTokens} />
      <div className="bar">
        <span aria-hidden>{t("compare.groupBy")}</span>
        <Select
          showSearch
          allowClear
          aria-label={t("compare.groupBy")}
          data-testid="compare-group"
          placeholder={t("compare.noGroups")}
          value={known}
          onChange={(key: string | undefined) => change({ group: key ?? null })}
          options={[
            { label: t("compare.differingKeys"), options: keys.filter((one) => one.isDifferent).map(({ key }) => ({ value: key, label: key })) },
            { label: t("compare.otherKeys"), options: keys.filter((one) => !one.isDifferent).map(({ key }) => ({ value: key, label: key })) },
          ].filter((one) => one.options.length > 0)}
          style={{ width: 320 }}
        />
        {groups && <span className="quiet">{t("compare.groupNote")}</span>}
      </div>
      {sections.length === 0 && <EmptyState text={t("charts.noMatch")} />}
      {sections.map(([name, own]) => {
        const isClosed = view.closed.includes(name);
        return (
          <section key={name} className="card">
            <button type="button" className="family" aria-expanded={!isClosed} onClick={() => change({ closed: toggled(view.closed, name) })}>
              {isClosed ? "▸" : "▾"} {t(`family.${name}`)} <span className="quiet">{own.length}</span>
            </button>
            {!isClosed && (
              <div className="charts compare-charts">
                {own.map(([metric, found]) => <OverlayCard key={metric} metric={metric} runs={found} {...common} open={show} />)}
              </div>
            )}
          </section>
        );
      })}
      {full && (
        <FullChart title={t("compare.title")} metric={full[0]} metrics={sections.flatMap(([, own]) => own.map(([metric]) => metric))} show={show}>
          {(height) => <Overlay key={full[0]} metric={full[0]} runs={full[1]} {...common} height={height - FIGURES_HEIGHT} />}
        </FullChart>
      )}
    </>
  );
}

function scalesOf(runs: Known[], axis: Axis, { starts, unit }: Clock): Scales {
  if (axis === "step") return ALL_BY_STEP;
  return new Map(runs.map(({ id, lines }) => [id, { ...BY_STEP, axis, start: starts.get(id) ?? 0, unit, tokens: tokensOf(axis === "tokens" ? tokenLines(lines) : []) }]));
}
