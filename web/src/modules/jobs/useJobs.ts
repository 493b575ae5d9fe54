/** The jobs that match, page after page, kept up to date by the websocket. */
import { useInfiniteQuery, useQueryClient, type InfiniteData } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, take, type Job } from "../../api/client";
import { Live } from "../../api/live";
import { merged, type JobList } from "./merging";

const PAGE = 500;
/** The shortest time between two questions because of jobs that changed. */
const ASK_AGAIN_MS = 1500;

export interface Asked {
  query: string;
  sort: string;
  /** Keys of the job file to show. */
  settings: string[];
}

type Pages = InfiniteData<JobList, number>;

export function useJobs({ query, sort, settings }: Asked) {
  const queries = useQueryClient();
  const shown = settings.join(" ");
  const found = useInfiniteQuery({
    queryKey: ["jobs", query, sort, shown],
    queryFn: ({ pageParam }) =>
      take(api.GET("/api/jobs", { params: { query: { query, sort, settings: shown ? shown.split(" ") : undefined, limit: PAGE, offset: pageParam } } })),
    initialPageParam: 0,
    getNextPageParam: (last, pages) => {
      const numLoaded = pages.reduce((sum, page) => sum + page.jobs.length, 0);
      return last.jobs.length === PAGE && numLoaded < last.total ? numLoaded : undefined;
    },
    placeholderData: (before) => before,
  });
  useEffect(() => {
    const key = ["jobs", query, sort, shown];
    let timer = 0;
    const askAgain = () => {
      if (timer) return;
      timer = window.setTimeout(() => {
        timer = 0;
        void queries.invalidateQueries({ queryKey: key });
      }, ASK_AGAIN_MS);
    };
    const takeJob = (job: Job) => {
      let isKnown = false;
      queries.setQueryData<Pages>(key, (before) => {
        if (!before) return before;
        const pages = before.pages.map((page) => merged(page, job));
        isKnown = pages.some((page, index) => page !== before.pages[index]);
        return isKnown ? { ...before, pages } : before;
      });
      if (!isKnown || query) askAgain();
    };
    const live = new Live(
      "live",
      () => 0,
      (message) => {
        if (message.kind === "job") takeJob(message.job);
      },
      askAgain,
    );
    return () => {
      window.clearTimeout(timer);
      live.close();
    };
  }, [queries, query, sort, shown]);
  return found;
}
