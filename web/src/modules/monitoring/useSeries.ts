/** All metrics of a job: one request, then appended from the live stream twice a second. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import { api, take, type Streamed } from "../../api/client";
import { fromPage, grown, NOTHING } from "./series";

const FLUSH_MS = 500;
const MAX_POINTS = 2000;

export function useSeries(jobId: number) {
  const loaded = useQuery({
    queryKey: ["series", jobId],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/series", { params: { path: { job_id: jobId }, query: { max_points: MAX_POINTS } } })),
    staleTime: Infinity,
    gcTime: 0,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
  });
  const [held, setHeld] = useState(NOTHING);
  const waiting = useRef<Streamed[]>([]);
  useEffect(() => {
    const page = loaded.data;
    if (page) setHeld((before) => (page.cursor >= before.cursor ? fromPage(page) : before));
  }, [loaded.data]);
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (waiting.current.length === 0) return;
      const events = waiting.current;
      waiting.current = [];
      setHeld((before) => grown(before, events, MAX_POINTS));
    }, FLUSH_MS);
    return () => window.clearInterval(timer);
  }, []);
  const append = useCallback((event: Streamed) => void waiting.current.push(event), []);
  return { lines: held.lines, append, cursor: loaded.data?.cursor, error: loaded.error, isLoading: loaded.isLoading };
}
