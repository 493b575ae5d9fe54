import { Select, Switch } from "antd";
import { useMemo } from "react";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { dimensionOptions } from "./dimensionOptions";
import { defaultPair, dimensions, type Dimension, type Known } from "./logic";
import { Plot } from "../../ui/Plot";
import { placed, scatterOption } from "./plotOptions";
import { PointsTable } from "./PointsTable";
import { useView } from "../../app/useView";

const HEIGHT = 440;
const AXES = ["x", "y"] as const;

/** Runs as points between two of their numbers. */
export function ScatterPanel({ runs }: { runs: Known[] }) {
  const t = useT();
  const [view] = useView();
  const found = useMemo(() => dimensions(runs.map((run) => run.job)), [runs]);
  const names = useMemo(() => runs.map(({ id, job }) => ({ id, name: `${job.name} #${id}` })), [runs]);
  const [firstX, firstY] = defaultPair(found);
  const pick = (name: string, first: string | undefined) => found.find((one) => one.id === view.get(name)) ?? found.find((one) => one.id === first);
  const [x, y] = [pick("sx", firstX), pick("sy", firstY)];
  if (!x || !y) return <EmptyState text={t("compare.noNumbers")} />;
  const look = { isLogX: view.get("logx") === "1", isLogY: view.get("logy") === "1" };
  const points = placed(names, x, y, look);
  return (
    <>
      <div className="bar">
        {AXES.map((axis) => (
          <AxisControls key={axis} axis={axis} found={found} chosen={axis === "x" ? x : y} />
        ))}
        {points.length < runs.length && <span className="quiet" role="status">{t("compare.notPlaced", { n: runs.length - points.length })}</span>}
      </div>
      <Plot option={scatterOption(points, x, y, look)} height={HEIGHT} numPoints={points.length} testId="compare-scatter" label={t("compare.scatterOf", { x: x.label, y: y.label, n: points.length })} />
      <PointsTable runs={names} shown={[x, y]} />
    </>
  );
}

function AxisControls({ axis, found, chosen }: { axis: (typeof AXES)[number]; found: Dimension[]; chosen: Dimension }) {
  const t = useT();
  const [view, change] = useView();
  const options = useMemo(() => dimensionOptions(found, t), [found, t]);
  return (
    <span className="cell-line">
      <span aria-hidden>{axis}</span>
      <Select
        showSearch={{ optionFilterProp: "label" }}
        data-testid={`compare-scatter-${axis}`}
        aria-label={t("compare.axisOf", { axis })}
        value={chosen.id}
        onChange={(id) => change({ [`s${axis}`]: id })}
        options={options}
        popupMatchSelectWidth={false}
        style={{ width: 260 }}
      />
      <label className="cell-line">
        <Switch size="small" aria-label={t("compare.logOf", { axis })} checked={view.get(`log${axis}`) === "1"} onChange={(isOn) => change({ [`log${axis}`]: isOn ? "1" : null })} />
        {t("compare.logOf", { axis })}
      </label>
    </span>
  );
}
