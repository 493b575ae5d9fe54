/** A window of the gradients of a run, asked for again as its steps are looked at. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, take } from "../../api/client";
import type { GradientView } from "./gradientView";

/** A run whose every step is looked at would else be asked for without a pause. */
const PAUSE_MS = 2000;
/** What a screen can show. */
const MAX_COLUMNS = 640;
const MAX_ROWS = 400;

export function useGradients(jobId: number | null, view: Pick<GradientView, "metric" | "by" | "stretch">, newest: number) {
  const settled = useAtMostEvery(newest, PAUSE_MS);
  const query = {
    metric: view.metric,
    by: view.by,
    from_step: view.stretch ? Math.floor(view.stretch.from) : undefined,
    to_step: view.stretch ? Math.ceil(view.stretch.to) : undefined,
    max_columns: MAX_COLUMNS,
    max_rows: MAX_ROWS,
  };
  return useQuery({
    queryKey: ["gradients", jobId, query, settled],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/gradients", { params: { path: { job_id: jobId ?? 0 }, query } })),
    enabled: jobId !== null,
    placeholderData: (before, asked) => (asked?.queryKey[1] === jobId ? before : undefined),
  });
}

/** The value, a change of which is told at most so often; the newest is told in the end. */
export function useAtMostEvery<T>(value: T, pauseMs: number): T {
  const [told, setTold] = useState(value);
  const [isResting, setResting] = useState(false);
  useEffect(() => {
    if (isResting || Object.is(told, value)) return;
    setTold(value);
    setResting(true);
  }, [value, told, isResting]);
  useEffect(() => {
    if (!isResting) return;
    const timer = window.setTimeout(() => setResting(false), pauseMs);
    return () => window.clearTimeout(timer);
  }, [isResting, pauseMs]);
  return told;
}
