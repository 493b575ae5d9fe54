/** The checkpoints of a run with their scores, kept up to date, and what can be asked of one. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App } from "antd";
import { api, take, type JobDetail } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";
import { isPending, type Checkpoint } from "./timeline";

const POLL_MS = 2000;

export function useTimeline(job: JobDetail) {
  return useQuery({
    queryKey: ["job", job.id, "checkpoints"],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/checkpoints", { params: { path: { job_id: job.id } } })),
    refetchInterval: (query) => (job.ended_at === null || (query.state.data && isPending(query.state.data)) ? POLL_MS : false),
  });
}

export type Act = "evaluate" | "keep" | "release" | "delete" | "rewind";

export function useAct(job: JobDetail) {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  return useMutation({
    mutationFn: ({ act, row }: { act: Act; row: Checkpoint }) => ask(act, job.id, row),
    onSuccess: (_, { act, row }) => {
      if (act === "rewind") notification.info({ title: t("checkpoints.asked.rewind", { step: row.step }), placement: "bottomRight" });
      void renew(queries, ["job", job.id]);
    },
    onError: (error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }),
  });
}

async function ask(act: Act, jobId: number, row: Checkpoint): Promise<void> {
  const path = { job_id: jobId, checkpoint_id: row.id };
  if (act === "rewind") {
    const values = { step: row.step, attempt: row.attempt };
    await take(api.POST("/api/jobs/{job_id}/{verb}", { params: { path: { job_id: jobId, verb: "rewind" } }, body: { values } }));
  } else if (act === "delete") await take(api.DELETE("/api/jobs/{job_id}/checkpoints/{checkpoint_id}", { params: { path } }));
  else if (act === "evaluate") await take(api.POST("/api/jobs/{job_id}/checkpoints/{checkpoint_id}/evaluate", { params: { path } }));
  else if (act === "keep") await take(api.POST("/api/jobs/{job_id}/checkpoints/{checkpoint_id}/keep", { params: { path } }));
  else await take(api.POST("/api/jobs/{job_id}/checkpoints/{checkpoint_id}/release", { params: { path } }));
}
