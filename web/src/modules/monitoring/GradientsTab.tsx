import { Skeleton } from "antd";
import { useCallback, useMemo } from "react";
import type { JobDetail } from "../../api/client";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import type { Place } from "../../ui/heatmapOptions";
import { asText, type Stretch } from "../../ui/stretch";
import { GradientControls } from "./GradientControls";
import { GradientDetail } from "./GradientDetail";
import { GradientHeatmap } from "./GradientHeatmap";
import { cellText, gradientViewOf } from "./gradientView";
import { against, isSigned, type Window } from "./heat";
import { useGradients } from "./useGradients";
import { useJobName } from "./useJobName";

const ENDED: readonly JobDetail["state"][] = ["completed", "failed", "cancelled", "lost", "paused"];

/** How large the gradients of each layer are over the steps. All settings live in the address. */
export function GradientsTab({ job, newest }: { job: JobDetail; newest: number }) {
  const t = useT();
  const [address, change] = useView();
  const text = address.toString();
  const view = useMemo(() => gradientViewOf(new URLSearchParams(text)), [text]);
  const own = useGradients(job.id, view, newest);
  const beside = useGradients(view.other, view, 0);
  const otherName = useJobName(view.other);
  const zoom = useCallback((stretch: Stretch | null) => change({ steps: stretch && asText(stretch) }), [change]);
  const isRatio = view.other !== null && view.mode === "ratio";
  const compared = useMemo(() => (isRatio && own.data && beside.data ? against(own.data, beside.data) : null), [isRatio, own.data, beside.data]);
  if (own.error && !own.data) return <ErrorCard error={own.error} retry={() => void own.refetch()} />;
  if (!own.data) return <Skeleton active />;
  if (own.data.first_step === null) return <EmptyState text={emptyText(job, t)} />;
  const pickIn = (window: Window) => ({ row, column }: Place) => {
    const [name, step] = [window.rows[row]?.first, window.columns[column]?.last_step];
    if (name !== undefined && step !== undefined) change({ cell: cellText(name, step) });
  };
  const name = `${job.name} #${job.id}`;
  const other = `${otherName ?? ""} #${view.other}`.trim();
  const common = { view, zoom };
  return (
    <>
      <GradientControls jobId={job.id} view={view} change={change} />
      <p className="quiet" data-testid="gradient-hint">
        {t("gradients.steps", { n: whole(own.data.num_steps) })} · {t(`gradients.combined.${own.data.combination}`)} {t("gradients.hint")}
      </p>
      {beside.error && view.other !== null && <ErrorCard error={beside.error} />}
      <div className={view.other === null ? undefined : "heatmap-pair"}>
        {isRatio && compared ? (
          <GradientHeatmap
            {...common}
            window={own.data}
            cells={compared}
            title={t(isSigned(view.metric) ? "gradients.differenceOf" : "gradients.ratioOf", { one: name, other })}
            compared={isSigned(view.metric) ? "difference" : "ratio"}
            pick={pickIn(own.data)}
            testId="gradient-ratio"
          />
        ) : (
          <GradientHeatmap {...common} window={own.data} cells={own.data.values} like={beside.data?.values} title={name} pick={pickIn(own.data)} testId="gradient-heatmap" isAlone={view.other === null} />
        )}
        {view.other !== null && !isRatio && beside.data && (
          <GradientHeatmap {...common} window={beside.data} cells={beside.data.values} like={own.data.values} title={other} pick={pickIn(beside.data)} testId="gradient-heatmap-other" />
        )}
      </div>
      {view.cell && <GradientDetail key={`${view.by} ${view.cell.name}`} job={job} view={view} cell={view.cell} newest={newest} otherName={other} close={() => change({ cell: null })} />}
    </>
  );
}

function emptyText(job: JobDetail, t: ReturnType<typeof useT>): string {
  const { monitoring } = job.spec as { monitoring?: { gradient_interval?: number } };
  const n = monitoring?.gradient_interval ?? 0;
  if (n === 0) return t("gradients.off");
  return ENDED.includes(job.state) || (job.step ?? 0) > 1 ? t("gradients.none", { n }) : t("gradients.soon", { n });
}
