import { useMutation } from "@tanstack/react-query";
import { App, Button, Dropdown, Space, Tooltip } from "antd";
import { useState } from "react";
import { useNavigate } from "react-router";
import { useT } from "../../app/i18n";
import { ExportDialog } from "./ExportDialog";
import { exportPlan, FORMATS, type ExportFormat } from "./exporting";
import { canApply, encode, type Plan, type PlanView } from "./plan";
import { messageOf, said } from "./phrases";

interface Props {
  plan: Plan;
  kept: Plan | null;
  /** Of this plan; none while it is not known or impossible. */
  view: PlanView | undefined;
  keep: () => void;
}

/** What can be done with a plan. */
export function Actions({ plan, kept, view, keep }: Props) {
  const t = useT();
  const navigate = useNavigate();
  const { message, notification } = App.useApp();
  const [format, setFormat] = useState<ExportFormat | null>(null);
  const apply = useMutation({
    mutationFn: () => exportPlan(plan, "job"),
    onSuccess: ({ files }) => void navigate("/launch", { state: { text: Object.values(files)[0] ?? "" } }),
    onError: (error) => notification.error({ title: t("planner.apply.failed"), description: said(messageOf(error), t) || t("error.unreachable") }),
  });
  const share = async () => {
    const text = encode(plan, kept);
    const link = `${window.location.origin}/planner${text === "" ? "" : `?${text}`}`;
    try {
      await navigator.clipboard.writeText(link);
      void message.success(t("planner.shared"));
    } catch {
      notification.info({ title: t("planner.share.byHand"), description: <code>{link}</code>, duration: 0 });
    }
  };
  const cannot = whyNot(view);
  return (
    <Space wrap>
      <Button data-testid="plan-compare-button" disabled={!view} onClick={keep}>{t(kept ? "planner.compare.again" : "planner.compare")}</Button>
      <Button data-testid="plan-share" onClick={() => void share()}>{t("planner.share")}</Button>
      <Dropdown
        trigger={["click"]}
        disabled={!view?.best}
        menu={{ items: FORMATS.map((key) => ({ key, label: <span data-testid={`export-${key}`}>{t(`planner.export.${key}`)}</span> })), onClick: ({ key }) => setFormat(key as ExportFormat) }}
      >
        <Button data-testid="plan-export">{t("planner.export")}</Button>
      </Dropdown>
      <Tooltip title={cannot && t(cannot)}>
        <span title={cannot ? t(cannot) : undefined}>
          <Button type="primary" data-testid="plan-apply" disabled={cannot !== null} loading={apply.isPending} onClick={() => apply.mutate()}>{t("planner.apply")}</Button>
        </span>
      </Tooltip>
      {format && <ExportDialog plan={plan} format={format} close={() => setFormat(null)} />}
    </Space>
  );
}

/** Why no job file can be made; null where one can. */
function whyNot(view: PlanView | undefined): "planner.apply.notYet" | "planner.apply.fitsNot" | "planner.apply.accelerate" | null {
  if (!view) return "planner.apply.notYet";
  if (!view.best) return "planner.apply.fitsNot";
  return canApply(view) ? null : "planner.apply.accelerate";
}
