/** The name of a run by its number. */
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";

export function useJobName(jobId: number | null): string | undefined {
  const found = useQuery({
    queryKey: ["job", jobId],
    queryFn: () => take(api.GET("/api/jobs/{job_id}", { params: { path: { job_id: jobId ?? 0 } } })),
    enabled: jobId !== null,
  });
  return found.data?.name;
}
