/** One job, kept up to date: its row, and its events from a cursor on. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { api, take, type JobDetail, type Streamed } from "../../api/client";
import { Live } from "../../api/live";

export function useRun(jobId: number) {
  const queries = useQueryClient();
  const found = useQuery({
    queryKey: ["job", jobId],
    queryFn: () => take(api.GET("/api/jobs/{job_id}", { params: { path: { job_id: jobId } } })),
  });
  const attempt = found.data?.attempt;
  const state = found.data?.state;
  useEffect(() => {
    if (attempt !== undefined) void queries.invalidateQueries({ queryKey: ["job", jobId], exact: true });
  }, [queries, jobId, attempt, state]);
  return found;
}

/**
 * The live stream of a job. `take` gets each event once, in order, also over reconnects.
 * @param from the cursor that the page has already; the stream opens once it is known
 */
export function useLive(jobId: number, from: number | undefined, takeEvent: (event: Streamed) => void): void {
  const queries = useQueryClient();
  const cursor = useRef(0);
  const handler = useRef(takeEvent);
  useEffect(() => {
    handler.current = takeEvent;
  });
  useEffect(() => {
    if (from === undefined) return;
    cursor.current = Math.max(cursor.current, from);
    const live = new Live(`jobs/${jobId}/live`, () => cursor.current, (message) => {
      if (message.kind === "job") {
        queries.setQueryData<JobDetail>(["job", jobId], (before) => (before ? { ...before, ...message.job } : before));
      } else if (message.event.cursor > cursor.current) {
        cursor.current = message.event.cursor;
        handler.current(message.event);
      }
    });
    return () => live.close();
  }, [queries, jobId, from]);
}
