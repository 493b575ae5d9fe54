import { useMemo, type ReactNode } from "react";
import { useT } from "../../app/i18n";
import { Plot } from "../../ui/Plot";
import type { Bar } from "./bars";
import { curveOption } from "./curveOption";
import { shownWay, type PlanView, type WayView } from "./plan";
import { BarsLegend, StackedBars } from "./StackedBars";
import { comparedName, phaseName } from "./words";
import type { Translate } from "../../app/i18n";

const CURVE_HEIGHT = 292;

export function phaseBars(way: WayView, usable: number, t: Translate): Bar[] {
  return way.phases.map((phase) => ({ key: phase.name.replaceAll(" ", "-"), label: phaseName(phase.name, t), bytes: phase.bytes, parts: phase.parts, fits: phase.bytes <= usable, isMarked: phase.name === way.peak_phase }));
}

function comparedBars(found: PlanView["stages"], t: Translate): Bar[] {
  return found.map((one) => ({ key: one.name.replaceAll(" ", "-"), label: comparedName(one.name, t), bytes: one.bytes, parts: one.parts, fits: one.fits }));
}

/** Memory of one device: over the phases of a step, over the length of a sequence, and in other forms. */
export function Charts({ view, context }: { view: PlanView; context: number }) {
  const t = useT();
  const way = shownWay(view);
  const phases = useMemo(() => (way ? phaseBars(way, view.usable_bytes, t) : []), [way, view, t]);
  const stages = useMemo(() => comparedBars(view.stages, t), [view, t]);
  const savings = useMemo(() => comparedBars(view.savings, t), [view, t]);
  const shared = { usable: view.usable_bytes, device: view.device_bytes };
  return (
    <>
      <Panel title={t("planner.phases")} note={t("planner.phases.why")}>
        <StackedBars bars={phases} {...shared} testId="plan-phases" label={t("planner.phases")} />
        <BarsLegend bars={[...phases, ...stages, ...savings]} {...shared} />
      </Panel>
      <div className="plan-charts">
        <Panel title={t("planner.curve")} note={t("planner.curve.why")}>
          <Plot option={curveOption(view, context, t)} height={CURVE_HEIGHT} numPoints={view.curve.length} testId="plan-curve" label={t("planner.curve")} />
        </Panel>
        <div className="stack">
          {stages.length > 0 && (
            <Panel title={t("planner.stages")} note={t("planner.stages.why")}>
              <StackedBars bars={stages} {...shared} testId="plan-stages" label={t("planner.stages")} />
            </Panel>
          )}
          <Panel title={t("planner.savings")} note={t("planner.savings.why")}>
            <StackedBars bars={savings} {...shared} testId="plan-savings" label={t("planner.savings")} />
          </Panel>
        </div>
      </div>
    </>
  );
}

export function Panel({ title, note, extra, children }: { title: string; note?: string; extra?: ReactNode; children: ReactNode }) {
  return (
    <section className="launch-section" aria-label={title}>
      <h2>{title}{note && <small className="quiet plan-small">{note}</small>}{extra && <span className="plan-extra">{extra}</span>}</h2>
      {children}
    </section>
  );
}
