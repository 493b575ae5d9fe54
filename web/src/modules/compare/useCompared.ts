/** The compared runs with their series, asked for again while they run. */
import { useQueries, useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import { useEffect, useMemo, useRef } from "react";
import { api, take, type Job } from "../../api/client";
import { fromPage, NOTHING, type Lines } from "../monitoring/series";
import { shared, type Compared } from "./logic";

const REFRESH_MS = 5000;
const MAX_POINTS = 1000;
const ACTIVE: readonly Job["state"][] = ["created", "queued", "allocated", "running", "pausing", "cancelling"];

const isActive = (state: Job["state"] | undefined) => state !== undefined && ACTIVE.includes(state);
const seriesKey = (jobId: number) => ["compare-series", jobId];

interface Loaded<T> {
  data: T | undefined;
  error: unknown;
  isLoading: boolean;
}

function combined<T>(results: UseQueryResult<T>[]): Loaded<T>[] {
  return results.map(({ data, error, isLoading }) => ({ data, error, isLoading }));
}

export function useCompared(ids: number[]): { runs: Compared[]; isLoading: boolean } {
  const jobs = useQueries({
    queries: ids.map((id) => ({
      queryKey: ["job", id],
      queryFn: () => take(api.GET("/api/jobs/{job_id}", { params: { path: { job_id: id } } })),
      refetchInterval: (query: { state: { data?: { state: Job["state"] } } }) => (isActive(query.state.data?.state) ? REFRESH_MS : (false as const)),
    })),
    combine: combined,
  });
  const states = jobs.map((job) => job.data?.state);
  const series = useQueries({
    queries: ids.map((id, index) => ({
      queryKey: seriesKey(id),
      queryFn: () => linesOf(id),
      enabled: states[index] !== undefined,
      refetchInterval: isActive(states[index]) ? REFRESH_MS : (false as const),
      structuralSharing: (before: unknown, after: unknown) => shared(before as Lines | undefined, after as Lines),
    })),
    combine: combined,
  });
  useLastPoints(ids, states.join(","));
  const runs = useMemo(
    () =>
      ids.map((id, index): Compared => {
        const [job, lines] = [jobs[index], series[index]];
        const error = (job?.data ? null : job?.error) ?? (lines?.data ? null : lines?.error);
        return { id, job: job?.data, lines: lines?.data ?? NOTHING.lines, error: error ?? null };
      }),
    [ids, jobs, series],
  );
  return { runs, isLoading: [...jobs, ...series].some((one) => one.isLoading) };
}

async function linesOf(jobId: number): Promise<Lines> {
  const query = { max_points: MAX_POINTS };
  return fromPage(await take(api.GET("/api/jobs/{job_id}/series", { params: { path: { job_id: jobId }, query } }))).lines;
}

/** Asks once more for the series of a run that ended: its last points may be newer than what was asked for before. */
function useLastPoints(ids: number[], states: string): void {
  const queries = useQueryClient();
  const before = useRef(new Map<number, string>());
  useEffect(() => {
    const now = new Map(states.split(",").map((state, index) => [ids[index] ?? 0, state]));
    for (const [id, state] of now) {
      const was = before.current.get(id);
      if (was && was !== state) void queries.invalidateQueries({ queryKey: seriesKey(id) });
    }
    before.current = now;
  }, [queries, ids, states]);
}
