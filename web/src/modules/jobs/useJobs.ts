/** All jobs that match, kept up to date by the websocket. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, take, type Job, type Schemas } from "../../api/client";
import { Live } from "../../api/live";

const PAGE = 500;

export function useJobs(search: string, state: string) {
  const queries = useQueryClient();
  const key = ["jobs", search, state];
  const found = useQuery({
    queryKey: key,
    queryFn: () =>
      take(api.GET("/api/jobs", { params: { query: { search: search || undefined, state: state || undefined, limit: PAGE } } })),
    placeholderData: (before) => before,
  });
  useEffect(() => {
    const live = new Live(
      "live",
      () => 0,
      (message) => {
        if (message.kind === "job") merge(message.job);
      },
      () => void queries.invalidateQueries({ queryKey: ["jobs"] }),
    );
    function merge(job: Job): void {
      let isKnown = false;
      queries.setQueriesData<Schemas["JobPage"]>({ queryKey: ["jobs"] }, (page) => {
        if (!page) return page;
        const jobs = page.jobs.map((row) => {
          if (row.id !== job.id) return row;
          isKnown = true;
          return job;
        });
        return { ...page, jobs };
      });
      if (!isKnown) void queries.invalidateQueries({ queryKey: ["jobs"] });
    }
    return () => live.close();
  }, [queries]);
  return found;
}
