import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Popconfirm, Tooltip } from "antd";
import { api, take, type JobDetail } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";
import { isPossible, undoText, type Entry } from "./alerts";

/** Takes back what a rule did, after saying what will happen. */
export function UndoButton({ job, entry }: { job: JobDetail; entry: Entry }) {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  const undo = useMutation({
    mutationFn: () => take(api.POST("/api/jobs/{job_id}/actions/{cursor}/undo", { params: { path: { job_id: job.id, cursor: entry.cursor } } })),
    onError: (error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }),
    onSettled: () => renew(queries, ["job", job.id]),
  });
  const label = t("alerts.undo.label", { action: entry.event.type === "action" ? entry.event.action : "", rule: entry.event.rule });
  if (!isPossible(job, entry)) {
    return (
      <Tooltip title={t("alerts.undo.notNow", { state: t(`state.${job.state}`) })}>
        <Button size="small" autoInsertSpace={false} disabled aria-label={label}>{t("alerts.undo")}</Button>
      </Tooltip>
    );
  }
  return (
    <Popconfirm
      title={<div className="undo-why">{undoText(entry, t)}</div>}
      okText={t("alerts.undo")}
      cancelText={t("alerts.undo.leave")}
      okButtonProps={{ "data-testid": "undo-confirm" }}
      placement="left"
      onConfirm={() => undo.mutate()}
    >
      <Button size="small" autoInsertSpace={false} aria-label={label} loading={undo.isPending} data-testid={`undo-${entry.cursor}`}>{t("alerts.undo")}</Button>
    </Popconfirm>
  );
}
