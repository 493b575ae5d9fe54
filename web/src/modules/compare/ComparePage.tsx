import { Alert, Skeleton, Tabs } from "antd";
import { useMemo } from "react";
import { useT } from "../../app/i18n";
import { useTitle } from "../../app/title";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { ChartsPanel } from "./ChartsPanel";
import { ConfigPanel } from "./ConfigPanel";
import { chosenIds, MAX_RUNS, MIN_RUNS, type Compared, type Known } from "./logic";
import { ParallelPanel } from "./ParallelPanel";
import { RunPicker } from "./RunPicker";
import { ScatterPanel } from "./ScatterPanel";
import { useCompared } from "./useCompared";
import { useView } from "../../app/useView";

const TABS = ["charts", "config", "scatter", "parallel"] as const;

const isKnown = (run: Compared): run is Known => run.job !== undefined;

/** Several runs side by side. Which ones, the tab and its settings live in the address. */
export default function ComparePage() {
  const t = useT();
  useTitle(t("compare.title"));
  const [view, change] = useView();
  const chosen = view.get("runs") ?? "";
  const { ids, numLeftOut } = useMemo(() => chosenIds(chosen), [chosen]);
  const { runs, isLoading } = useCompared(ids);
  const failed = runs.filter((run) => run.error);
  return (
    <div className="page" data-testid="compare-page">
      <div className="page-title"><h1>{t("compare.title")}</h1></div>
      <RunPicker runs={runs} choose={(next) => change({ runs: next.join(",") })} />
      {numLeftOut > 0 && (
        <Alert className="card" type="info" showIcon data-testid="compare-too-many" title={t("compare.tooMany", { n: MAX_RUNS, left: numLeftOut })} />
      )}
      {failed.length > 0 && (
        <div className="grid-2 card">
          {failed.map((run) => (
            <section key={run.id} aria-label={`#${run.id}`} data-testid={`compare-error-${run.id}`}>
              <b>#{run.id}</b>
              <ErrorCard error={run.error} />
            </section>
          ))}
        </div>
      )}
      {ids.length < MIN_RUNS ? <EmptyState text={t("compare.empty")} /> : <Panels runs={runs} isLoading={isLoading} />}
    </div>
  );
}

function Panels({ runs, isLoading }: { runs: Compared[]; isLoading: boolean }) {
  const t = useT();
  const [view, change] = useView();
  const known = useMemo(() => runs.filter(isKnown), [runs]);
  const tab = TABS.find((name) => name === view.get("tab")) ?? "charts";
  if (known.length === 0) return isLoading ? <Skeleton active /> : null;
  const contents = {
    charts: <ChartsPanel runs={known} isLoading={isLoading} />,
    config: <ConfigPanel runs={known} />,
    scatter: <ScatterPanel runs={known} />,
    parallel: <ParallelPanel runs={known} />,
  };
  return (
    <Tabs
      activeKey={tab}
      onChange={(name) => change({ tab: name === "charts" ? null : name })}
      items={TABS.map((name) => ({ key: name, label: <span data-testid={`tab-${name}`}>{t(`compare.${name}`)}</span>, children: contents[name] }))}
      destroyOnHidden
    />
  );
}
