import { LeftOutlined, RightOutlined, SortAscendingOutlined, SortDescendingOutlined } from "@ant-design/icons";
import { Button, Input, InputNumber, Select, Space, Tooltip } from "antd";
import { useState } from "react";
import { useT } from "../../app/i18n";
import type { Change } from "../../app/useView";
import { SORTS, type Page, type RolloutView } from "./rolloutView";

/** Which step, and which of its completions. */
export function RolloutFilters({ view, page, change, pick }: { view: RolloutView; page: Page | undefined; change: Change; pick: (step: number | null) => void }) {
  const t = useT();
  const go = (step: number | null | undefined) => step !== null && step !== undefined && pick(step);
  const bound = (name: "rmin" | "rmax" | "lmin" | "lmax", label: string, value: number | null) => (
    <InputNumber size="small" aria-label={label} placeholder={label} value={value} min={name.startsWith("l") ? 0 : undefined} controls={false} style={{ width: 78 }} onChange={(next) => change({ [name]: next === null ? null : String(next), at: null })} data-testid={`rollout-${name}`} />
  );
  return (
    <div className="bar rollout-bar">
      <Space.Compact size="small">
        <Tooltip title={t("rollouts.previous")}>
          <Button size="small" icon={<LeftOutlined />} aria-label={t("rollouts.previous")} disabled={page?.previous_step == null} onClick={() => go(page?.previous_step)} data-testid="rollout-previous" />
        </Tooltip>
        <StepInput key={page?.step} step={view.step ?? page?.step ?? null} pick={go} label={t("samples.step")} />
        <Tooltip title={t("rollouts.next")}>
          <Button size="small" icon={<RightOutlined />} aria-label={t("rollouts.next")} disabled={page?.next_step == null} onClick={() => go(page?.next_step)} data-testid="rollout-next" />
        </Tooltip>
        <Button size="small" type={view.step === null ? "primary" : "default"} onClick={() => pick(null)} data-testid="rollout-newest">{t("rollouts.newest")}</Button>
      </Space.Compact>
      <TextFilter key={view.text} text={view.text} change={change} />
      <Select
        size="small"
        aria-label={t("rollouts.part")}
        value={view.part ?? ""}
        onChange={(value) => change({ part: value || null, at: null })}
        options={[{ value: "", label: t("rollouts.sum") }, ...(page?.parts ?? []).map((value) => ({ value, label: value }))]}
        style={{ width: 120 }}
        popupMatchSelectWidth={false}
        data-testid="rollout-part"
      />
      <Space.Compact size="small">{bound("rmin", t("rollouts.rmin"), view.minReward)}{bound("rmax", t("rollouts.rmax"), view.maxReward)}</Space.Compact>
      <Space.Compact size="small">{bound("lmin", t("rollouts.lmin"), view.minLength)}{bound("lmax", t("rollouts.lmax"), view.maxLength)}</Space.Compact>
      <Select
        size="small"
        aria-label={t("samples.truncated")}
        value={view.isTruncated === null ? "" : view.isTruncated ? "yes" : "no"}
        onChange={(value) => change({ cut: value || null, at: null })}
        options={[{ value: "", label: t("rollouts.cut.any") }, { value: "yes", label: t("samples.truncated") }, { value: "no", label: t("rollouts.cut.no") }]}
        style={{ width: 104 }}
        data-testid="rollout-cut"
      />
      <Space.Compact size="small">
        <Select size="small" aria-label={t("rollouts.sort")} value={view.sort} onChange={(value) => change({ sort: value === "index" ? null : value })} options={SORTS.map((value) => ({ value, label: t(`rollouts.sort.${value}`) }))} style={{ width: 112 }} data-testid="rollout-sort" />
        <Tooltip title={t(view.isDescending ? "rollouts.descending" : "rollouts.ascending")}>
          <Button size="small" icon={view.isDescending ? <SortDescendingOutlined /> : <SortAscendingOutlined />} aria-label={t(view.isDescending ? "rollouts.descending" : "rollouts.ascending")} onClick={() => change({ down: view.isDescending ? null : "1" })} />
        </Tooltip>
      </Space.Compact>
    </div>
  );
}

function StepInput({ step, pick, label }: { step: number | null; pick: (step: number | null) => void; label: string }) {
  const [typed, setTyped] = useState<number | null>(step);
  const commit = () => typed !== step && pick(typed);
  return <InputNumber size="small" aria-label={label} value={typed} min={0} precision={0} controls={false} style={{ width: 92 }} onChange={setTyped} onPressEnter={commit} onBlur={commit} data-testid="rollout-step" />;
}

function TextFilter({ text, change }: { text: string; change: Change }) {
  const t = useT();
  return <Input.Search size="small" allowClear aria-label={t("rollouts.text")} placeholder={t("rollouts.text")} defaultValue={text} onSearch={(typed) => change({ q: typed || null, at: null })} style={{ width: 160 }} data-testid="rollout-text" />;
}
