import { Skeleton } from "antd";
import { useT } from "../../app/i18n";
import { useTitle } from "../../app/title";
import { Actions } from "./Actions";
import { Charts, Panel } from "./Charts";
import { ComparePanel } from "./ComparePanel";
import { OthersTable } from "./OthersTable";
import { messageOf, said } from "./phrases";
import { pinned } from "./plan";
import { PlanForm } from "./PlanForm";
import { useAnswer, usePlanner } from "./usePlanner";
import { Verdict } from "./Verdict";

/** How a job runs fastest on given devices and what that takes, before one is rented. The whole plan lives in the address. */
export default function PlannerPage() {
  const t = useT();
  useTitle(t("nav.planner"));
  const { plan, change, settled, kept, keep, replace } = usePlanner();
  const { view, isOld, error } = useAnswer(settled);
  const isStale = isOld || settled !== plan;
  return (
    <div className="page" data-testid="planner-page">
      <div className="page-title">
        <h1>{t("planner.title")}</h1>
        <Actions plan={plan} kept={kept} view={isStale ? undefined : view} keep={() => keep(plan)} />
      </div>
      <div className="planner">
        <div className="plan-inputs">
          {error && <p className="plan-error" role="alert" data-testid="plan-error">{said(messageOf(error), t) || t("error.unreachable")}</p>}
          <PlanForm plan={plan} change={change} parameters={view?.parameters} />
        </div>
        <div className="plan-answer" data-old={error !== null && view !== undefined} data-testid="plan-answer" data-state={error ? "error" : isStale ? "fetching" : "shown"} aria-busy={isStale && !error}>
          {!view && !error && <Skeleton active paragraph={{ rows: 12 }} />}
          {!view && error && <p className="quiet">{t("planner.noAnswer")}</p>}
          {view && (
            <>
              <Verdict plan={plan} view={view} change={change} />
              {kept && <ComparePanel kept={kept} plan={settled} view={view} swap={() => replace(kept, plan)} close={() => keep(null)} />}
              <Charts view={view} context={settled.context} />
              <Panel title={t("planner.others")} note={t("planner.others.why")}>
                <OthersTable view={view} pin={(way) => change(pinned(way))} />
              </Panel>
            </>
          )}
        </div>
      </div>
    </div>
  );
}
