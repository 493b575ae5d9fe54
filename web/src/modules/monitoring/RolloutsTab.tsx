import { Alert, Button, Skeleton } from "antd";
import { useCallback, useMemo } from "react";
import type { JobDetail } from "../../api/client";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { useKeys } from "../../app/keys";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { Detectors } from "./Detectors";
import { RolloutDetail } from "./RolloutDetail";
import { RolloutFilters } from "./RolloutFilters";
import { RolloutList } from "./RolloutList";
import { RolloutSteps } from "./RolloutSteps";
import { beside, FILTERS, rolloutViewOf } from "./rolloutView";
import { MAX_ROWS, useRolloutPage, useRolloutSteps } from "./useRollouts";

/** Rollouts by step and prompt, each with its tokens. All settings live in the address; all text is text. */
export function RolloutsTab({ job, newest }: { job: JobDetail; newest: number }) {
  const t = useT();
  const [address, change] = useView();
  const text = address.toString();
  const view = useMemo(() => rolloutViewOf(new URLSearchParams(text)), [text]);
  const steps = useRolloutSteps(job.id, newest);
  const found = useRolloutPage(job.id, view, newest);
  const page = found.data;
  const chosen = page?.rollouts.find((row) => row.index === view.index)?.index ?? view.index ?? page?.rollouts[0]?.index ?? null;
  const pick = useCallback((step: number | null) => change({ step: step === null ? null : String(step), at: null }), [change]);
  const choose = useCallback((index: number) => change({ step: page?.step == null ? null : String(page.step), at: String(index) }), [change, page?.step]);
  const move = (by: number) => {
    const next = beside(page?.rollouts ?? [], chosen, by);
    if (next) choose(next.index);
  };
  const isNarrow = FILTERS.some((name) => address.has(name));
  useKeys({ j: () => move(1), k: () => move(-1) });
  if (steps.error && !steps.data) return <ErrorCard error={steps.error} retry={() => void steps.refetch()} />;
  if (!steps.data) return <Skeleton active />;
  if (steps.data.first_step === null) return <EmptyState text={t("samples.empty")} />;
  const step = page?.step ?? view.step ?? steps.data.last_step ?? 0;
  return (
    <>
      <Detectors jobId={job.id} newest={newest} sign={view.sign} change={change} />
      <RolloutSteps history={steps.data} step={step} lane={view.lane} pick={pick} change={change} />
      <RolloutFilters view={view} page={page} change={change} pick={pick} />
      {found.error && <ErrorCard error={found.error} retry={() => void found.refetch()} />}
      {!found.error && page?.step != null && page.attempt !== null && (
        <>
          {page.num_unreadable > 0 && <Alert className="card" type="warning" showIcon title={t("rollouts.unreadable", { n: whole(page.num_unreadable) })} />}
          <div className="rollouts">
            <div className="rollout-side">
              <p className="quiet rollout-count" data-testid="rollout-count" data-matching={page.num_matching}>
                {t("rollouts.matching", { shown: whole(Math.min(page.num_matching, MAX_ROWS)), n: whole(page.num_rollouts) })}
                {page.num_left_out > 0 && ` ${t("rollouts.leftOut", { n: whole(page.num_left_out) })}`}
                {isNarrow && <Button size="small" type="link" onClick={() => change(Object.fromEntries([...FILTERS, "at"].map((name) => [name, null])))} data-testid="rollout-clear">{t("rollouts.clear")}</Button>}
              </p>
              <RolloutList page={page} isGrouped={view.sort === "index" && !view.isDescending} chosen={chosen} choose={choose} move={move} />
            </div>
            {chosen !== null && <RolloutDetail jobId={job.id} attempt={page.attempt} step={page.step} index={chosen} view={view} newest={newest} change={change} />}
          </div>
        </>
      )}
      {!page && !found.error && <Skeleton active />}
    </>
  );
}
