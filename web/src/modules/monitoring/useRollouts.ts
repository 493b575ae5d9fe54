/** Rollouts of a run, asked for again as they come. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";
import { pageQuery, type RolloutView } from "./rolloutView";
import { useAtMostEvery } from "./useGradients";

const PAUSE_MS = 3000;
/** Detectors read some dozens of steps. */
const LONG_PAUSE_MS = 30_000;
/** What a screen can show. */
const MAX_COLUMNS = 600;
/** Completions in the list. */
export const MAX_ROWS = 200;

export function useRolloutSteps(jobId: number, newest: number) {
  const settled = useAtMostEvery(newest, PAUSE_MS);
  return useQuery({
    queryKey: ["rollouts", jobId, "steps", settled],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rollouts/steps", { params: { path: { job_id: jobId }, query: { max_columns: MAX_COLUMNS } } })),
    placeholderData: keepPreviousData,
  });
}

export function useRolloutPage(jobId: number, view: RolloutView, newest: number) {
  const settled = useAtMostEvery(newest, PAUSE_MS);
  const query = { ...pageQuery(view), limit: MAX_ROWS };
  return useQuery({
    queryKey: ["rollouts", jobId, "page", query, settled],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rollouts", { params: { path: { job_id: jobId }, query } })),
    placeholderData: keepPreviousData,
  });
}

/** What was recorded does not change. */
export function useRollout(jobId: number, attempt: number, step: number, index: number) {
  return useQuery({
    queryKey: ["rollouts", jobId, "one", attempt, step, index],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rollouts/one", { params: { path: { job_id: jobId }, query: { step, index } } })),
    placeholderData: keepPreviousData,
    staleTime: Infinity,
  });
}

export function usePromptOverTime(jobId: number, key: string, newest: number) {
  const settled = useAtMostEvery(newest, PAUSE_MS);
  return useQuery({
    queryKey: ["rollouts", jobId, "prompt", key, settled],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rollouts/prompt", { params: { path: { job_id: jobId }, query: { key } } })),
    placeholderData: (before, asked) => (asked?.queryKey[3] === key ? before : undefined),
  });
}

export function useDetectors(jobId: number, newest: number) {
  const settled = useAtMostEvery(newest, LONG_PAUSE_MS);
  return useQuery({
    queryKey: ["rollouts", jobId, "detectors", settled],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/rollouts/detectors", { params: { path: { job_id: jobId } } })),
    placeholderData: keepPreviousData,
  });
}
