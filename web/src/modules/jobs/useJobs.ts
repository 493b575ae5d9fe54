/** All jobs that match, kept up to date by the websocket. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, take, type Job } from "../../api/client";
import { Live } from "../../api/live";
import { merged, type JobList } from "./merging";

const LIMIT = 1000;

/** @param states empty takes every state */
export function useJobs(search: string, states: string[]) {
  const queries = useQueryClient();
  const state = states.join(",");
  const found = useQuery({
    queryKey: ["jobs", search, state],
    queryFn: () =>
      take(api.GET("/api/jobs", { params: { query: { search: search || undefined, state: state || undefined, limit: LIMIT } } })),
    placeholderData: (before) => before,
  });
  useEffect(() => {
    const key = ["jobs", search, state];
    const asked = new Set<number>();
    const takeJob = (job: Job) => {
      const page = queries.getQueryData<JobList>(key);
      if (!page) return;
      const next = merged(page, job, state ? state.split(",") : []);
      queries.setQueryData(key, next.page);
      // A job that the search excludes stays missing: once is enough to know.
      if (!next.isMissing || asked.has(job.id)) return;
      asked.add(job.id);
      void queries.invalidateQueries({ queryKey: key });
    };
    const live = new Live(
      "live",
      () => 0,
      (message) => {
        if (message.kind === "job") takeJob(message.job);
      },
      () => void queries.invalidateQueries({ queryKey: key }),
    );
    return () => live.close();
  }, [queries, search, state]);
  return found;
}
