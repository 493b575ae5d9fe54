/** What rules saw and did in a run, and which rules watch it. The page of the run says when that is out of date. */
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";

const NEWEST = 500;

export function useAlerts(jobId: number) {
  return useQuery({
    queryKey: ["job", jobId, "story"],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/story", { params: { path: { job_id: jobId }, query: { limit: NEWEST } } })),
  });
}

export function useRules(jobId: number) {
  return useQuery({
    queryKey: ["job", jobId, "rules"],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rules", { params: { path: { job_id: jobId } } })),
  });
}
