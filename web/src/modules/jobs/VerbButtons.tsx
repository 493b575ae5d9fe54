import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Space, Tag, Tooltip } from "antd";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api, take, type JobDetail, type Verb } from "../../api/client";
import { specYaml } from "../../app/format";
import { useT } from "../../app/i18n";
import { ShareDialog } from "./ShareDialog";

/** Buttons for what can be done in this state, no others, and the wishes that are still open. */
export function VerbButtons({ job }: { job: JobDetail }) {
  const t = useT();
  const navigate = useNavigate();
  const { notification } = App.useApp();
  const queries = useQueryClient();
  const [isSharing, setSharing] = useState(false);
  const ask = useMutation({
    mutationFn: (verb: Verb) => take(api.POST("/api/jobs/{job_id}/{verb}", { params: { path: { job_id: job.id, verb } }, body: { values: {} } })),
    onSuccess: (row) => queries.setQueryData<JobDetail>(["job", job.id], (before) => (before ? { ...before, ...row } : before)),
    onError: (error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }),
  });
  // Where to go on from is chosen beside the checkpoint or the rollback, and a live setting beside its value.
  const verbs = job.verbs.filter((verb) => verb !== "rewind" && verb !== "set");
  return (
    <Space wrap className="verbs">
      {job.requests.map((wish) => (
        <Tag key={wish.id} color="processing" data-testid={`wish-${wish.verb}`}>{t("verb.requested", { verb: t(`verb.${wish.verb}`) })}</Tag>
      ))}
      {verbs.map((verb) => (
        <Tooltip key={verb} title={t(`verb.${verb}.why`)}>
          <Button
            data-testid={`verb-${verb}`}
            type={verb === "resume" || verb === "retry" ? "primary" : "default"}
            loading={ask.isPending && ask.variables === verb}
            onClick={() => ask.mutate(verb)}
          >
            {t(`verb.${verb}`)}
          </Button>
        </Tooltip>
      ))}
      {job.kind !== "external" && <Tooltip title={t("run.copy.why")}>
        <Button data-testid="launch-copy" onClick={() => void navigate("/launch", { state: { text: specYaml(job.spec) } })}>{t("run.copy")}</Button>
      </Tooltip>}
      <Tooltip title={t("share.button.why")}><Button data-testid="share" onClick={() => setSharing(true)}>{t("share.button")}</Button></Tooltip>
      <ShareDialog job={job} isOpen={isSharing} close={() => setSharing(false)} />
    </Space>
  );
}
