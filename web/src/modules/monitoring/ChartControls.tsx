import { Button, Input, Segmented, Slider, Switch, Tooltip } from "antd";
import { useState } from "react";
import { useT } from "../../app/i18n";
import type { Change } from "../../app/useView";
import type { Axis } from "./axis";
import { isPattern } from "./series";
import { canBeLog, MOST_SMOOTHING, type ChartView } from "./view";

interface Props {
  view: ChartView;
  change: Change;
  axes: readonly Axis[];
  /** Of the time since the start. */
  unit: string;
  hasTokens: boolean;
}

/** How all charts of a page are drawn. */
export function ChartControls({ view, change, axes, unit, hasTokens }: Props) {
  const t = useT();
  const label = (axis: Axis) => {
    if (axis === "elapsed") return t("charts.elapsed", { unit });
    if (axis === "tokens" && !hasTokens) return <Tooltip title={t("charts.noTokens")}>{t("charts.tokens")}</Tooltip>;
    return t(`charts.${axis}`);
  };
  return (
    <div className="bar" data-search>
      <FilterField value={view.filter} change={(metric) => change({ metric })} />
      {!isPattern(view.filter) && <span className="quiet" role="status" data-testid="filter-problem">{t("charts.plainText")}</span>}
      <span aria-hidden>{t("charts.smoothing")}</span>
      <Slider
        ariaLabelForHandle={t("charts.smoothing")}
        min={0}
        max={MOST_SMOOTHING}
        step={0.01}
        value={view.smoothing}
        onChange={(value) => change({ smooth: value ? String(value) : null })}
        style={{ width: 130 }}
      />
      <Segmented
        aria-label={t("charts.axis")}
        value={view.axis}
        onChange={(value) => change({ x: value === axes[0] ? null : value, zoom: null })}
        options={axes.map((axis) => ({ value: axis, label: label(axis), disabled: axis === "tokens" && !hasTokens }))}
      />
      <Toggle label={t("charts.logX")} hint={canBeLog(view.axis) ? "" : t("charts.noLogX")} isOn={view.isLogX} isDisabled={!canBeLog(view.axis)} set={(isOn) => change({ logx: isOn ? "1" : null })} />
      <Toggle label={t("charts.logY")} isOn={view.isLogY} set={(isOn) => change({ log: isOn ? "1" : null })} />
      <Toggle label={t("charts.clip")} hint={t("charts.clipHint")} isOn={view.isClipped} set={(isOn) => change({ clip: isOn ? "1" : null })} />
      {view.stretch && <Button size="small" data-testid="show-all" onClick={() => change({ zoom: null })}>{t("charts.showAll")}</Button>}
      <span className="quiet">{t("charts.hint")}</span>
    </div>
  );
}

interface ToggleProps {
  label: string;
  hint?: string;
  isOn: boolean;
  isDisabled?: boolean;
  set: (isOn: boolean) => void;
}

function Toggle({ label, hint = "", isOn, isDisabled = false, set }: ToggleProps) {
  return (
    <Tooltip title={hint}>
      <label className="cell-line">
        <Switch size="small" aria-label={label} checked={isOn} disabled={isDisabled} onChange={set} />
        {label}
      </label>
    </Tooltip>
  );
}

/** Keeps its own text, so that typing never waits for the address. */
function FilterField({ value, change }: { value: string; change: (value: string) => void }) {
  const t = useT();
  const [text, setText] = useState(value);
  return (
    <Input
      allowClear
      data-testid="metric-filter"
      aria-label={t("charts.filter")}
      placeholder={t("charts.filter")}
      value={text}
      onChange={(event) => {
        setText(event.target.value);
        change(event.target.value);
      }}
      style={{ width: 230 }}
    />
  );
}
