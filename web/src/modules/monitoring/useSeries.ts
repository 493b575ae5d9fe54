/** All metrics of a job: asked for once, those on top of the page first, then appended from the live stream twice a second. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import { api, take, type Streamed } from "../../api/client";
import { batches, grown, joined, NOTHING, type Held } from "./series";

const FLUSH_MS = 500;
const MAX_POINTS = 2000;

export function useSeries(jobId: number) {
  const [held, setHeld] = useState(NOTHING);
  const [cursor, setCursor] = useState<number>();
  const loaded = useQuery({
    queryKey: ["series", jobId],
    queryFn: async ({ signal }) => {
      const path = { job_id: jobId };
      const known = await take(api.GET("/api/jobs/{job_id}/metrics", { params: { path }, signal }));
      setCursor((before) => before ?? known.cursor);
      let found: Held = { ...NOTHING, cursor: known.cursor };
      for (const names of batches(known.metrics)) {
        const query = { names, max_points: MAX_POINTS };
        found = joined(found, await take(api.GET("/api/jobs/{job_id}/series", { params: { path, query }, signal })));
        setHeld(found);
      }
      setHeld(found);
      return known.cursor;
    },
    staleTime: Infinity,
    gcTime: 0,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
  });
  const isComplete = loaded.data !== undefined;
  const waiting = useRef<Streamed[]>([]);
  useEffect(() => {
    if (!isComplete) return;
    const timer = window.setInterval(() => {
      if (waiting.current.length === 0) return;
      const events = waiting.current;
      waiting.current = [];
      setHeld((before) => grown(before, events, MAX_POINTS));
    }, FLUSH_MS);
    return () => window.clearInterval(timer);
  }, [isComplete]);
  const append = useCallback((event: Streamed) => void waiting.current.push(event), []);
  return { lines: held.lines, append, cursor, error: loaded.error, isLoading: loaded.isLoading };
}
