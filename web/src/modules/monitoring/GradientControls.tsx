import { Button, Segmented, Select } from "antd";
import { useT } from "../../app/i18n";
import { useIsGuest } from "../../app/guest";
import type { Change } from "../../app/useView";
import { OtherRun } from "./OtherRun";
import { CLIPS, KINDS, MODES, type GradientView } from "./gradientView";
import { isSigned, METRICS, SCALES } from "./heat";

interface Props {
  jobId: number;
  view: GradientView;
  change: Change;
}

/** What of the gradients is drawn, and how. */
export function GradientControls({ jobId, view, change }: Props) {
  const t = useT();
  const isGuest = useIsGuest();
  const orNone = <T extends string | number>(value: T, first: T) => (value === first ? null : String(value));
  return (
    <div className="bar">
      <Select
        aria-label={t("gradients.metric")}
        data-testid="gradient-metric"
        value={view.metric}
        onChange={(stat) => change({ stat: orNone(stat, "norm") })}
        options={METRICS.map((value) => ({ value, label: t(`gradient.${value}`) }))}
        listHeight={480}
        style={{ width: 190 }}
      />
      <Segmented
        aria-label={t("gradients.by")}
        value={view.by}
        onChange={(by) => change({ by: orNone(by, "layer"), cell: null })}
        options={KINDS.map((value) => ({ value, label: <span data-testid={`gradient-by-${value}`}>{t(`gradients.by.${value}`)}</span> }))}
      />
      <Segmented
        aria-label={t("gradients.scale")}
        value={view.scale}
        onChange={(scale) => change({ scale: orNone(scale, "auto") })}
        options={SCALES.map((value) => ({ value, label: t(`gradients.scale.${value}`) }))}
      />
      <Select
        aria-label={t("gradients.clip")}
        value={view.clip}
        onChange={(range) => change({ range: orNone(range, 1) })}
        options={CLIPS.map((value) => ({ value, label: t(`gradients.clip.${value}`) }))}
        style={{ width: 190 }}
      />
      {!isGuest && <OtherRun jobId={jobId} chosen={view.other} choose={(id) => change({ with: id === null ? null : String(id) })} />}
      {view.other !== null && (
        <Segmented
          aria-label={t("gradients.mode")}
          value={view.mode}
          onChange={(mode) => change({ mode: orNone(mode, "beside") })}
          options={MODES.map((value) => ({
            value,
            label: <span data-testid={`gradient-mode-${value}`}>{t(value === "ratio" && isSigned(view.metric) ? "gradients.mode.difference" : `gradients.mode.${value}`)}</span>,
          }))}
        />
      )}
      {view.stretch && <Button size="small" data-testid="show-all" onClick={() => change({ steps: null })}>{t("charts.showAll")}</Button>}
    </div>
  );
}
