import { Button, Select } from "antd";
import { useMemo } from "react";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { dimensionOptions } from "./dimensionOptions";
import { defaultAxes, dimensions, parallelAxes, type Known } from "./logic";
import { Plot } from "../../ui/Plot";
import { parallelOption } from "./plotOptions";
import { PointsTable } from "./PointsTable";
import { useView } from "../../app/useView";

const HEIGHT = 420;
const MIN_AXES = 2;
const MAX_AXES = 16;

/** Runs as lines over several of their numbers. */
export function ParallelPanel({ runs }: { runs: Known[] }) {
  const t = useT();
  const [view, change] = useView();
  const found = useMemo(() => dimensions(runs.map((run) => run.job)), [runs]);
  const names = useMemo(() => runs.map(({ id, job }) => ({ id, name: `${job.name} #${id}` })), [runs]);
  const options = useMemo(() => dimensionOptions(found, t), [found, t]);
  const asked = view.get("dims");
  const axes = parallelAxes(found, (asked?.split(",") ?? defaultAxes(found)).slice(0, MAX_AXES));
  return (
    <>
      <div className="bar">
        <Select
          mode="multiple"
          data-testid="compare-dimensions"
          aria-label={t("compare.dimensions")}
          placeholder={t("compare.dimensions")}
          value={axes.map((axis) => axis.dimension.id)}
          onChange={(ids: string[]) => change({ dims: ids.length > 0 ? ids.join(",") : "none" })}
          options={options}
          maxCount={MAX_AXES}
          maxTagCount="responsive"
          showSearch={{ optionFilterProp: "label" }}
          popupMatchSelectWidth={false}
          style={{ width: 520, maxWidth: "100%" }}
        />
        {asked !== null && <Button size="small" onClick={() => change({ dims: null })}>{t("compare.defaultAxes")}</Button>}
        <span className="quiet">{t("compare.brush")}</span>
      </div>
      {axes.length < MIN_AXES ? (
        <EmptyState text={t("compare.fewAxes")} />
      ) : (
        <>
          <Plot option={parallelOption(names, axes)} height={HEIGHT} numPoints={names.length} testId="compare-parallel" label={t("compare.parallelOf", { n: names.length, axes: axes.map((axis) => axis.name).join(", ") })} />
          <PointsTable runs={names} shown={axes.map((axis) => axis.dimension)} />
        </>
      )}
    </>
  );
}
