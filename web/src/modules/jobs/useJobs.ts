/** The jobs that match, page after page, kept up to date by the websocket. */
import { useInfiniteQuery, useQueryClient, type InfiniteData } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, take, type Job } from "../../api/client";
import { Live } from "../../api/live";
import { merged, type JobList } from "./merging";

const PAGE = 500;
/** The shortest time between two questions because of jobs that changed. */
const ASK_AGAIN_MS = 1500;
/** Jobs that changed within this time go into the table together. */
const FLUSH_MS = 500;

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
    const waiting = new Map<number, Job>();
    let flushing = 0;
    const flush = () => {
      flushing = 0;
      const jobs = [...waiting.values()];
      waiting.clear();
      let areKnown = false;
      queries.setQueryData<Pages>(key, (before) => {
        if (!before) return before;
        const loaded = new Set(before.pages.flatMap((page) => page.jobs.map((job) => job.id)));
        areKnown = jobs.every((job) => loaded.has(job.id));
        const pages = before.pages.map((page) => jobs.reduce(merged, page));
        return pages.some((page, index) => page !== before.pages[index]) ? { ...before, pages } : before;
      });
      if (!areKnown || query) askAgain();
    };
    const takeJob = (job: Job) => {
      waiting.set(job.id, job);
      flushing ||= window.setTimeout(flush, FLUSH_MS);
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
      window.clearTimeout(flushing);
      live.close();
    };
  }, [queries, query, sort, shown]);
  return found;
}
