/** A zoomed stretch of a thinned series, read again as finely as the screen can show it. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { api, take } from "../../api/client";
import type { Stretch } from "../../ui/stretch";
import { stepsWithin, type Scale } from "./axis";
import { fromPage, lineKey, spliced, type Line } from "./series";

const PAUSE_MS = 250;
const MAX_POINTS = 4000;
const KEPT_MS = 60_000;

/** The lines with what the server has between the ends of the stretch. */
export function useDetail(jobId: number, metric: string, lines: Line[], scale: Scale, stretch: Stretch | null): Line[] {
  const settled = useSettled(stretch);
  const isThinned = lines.some((line) => line.isThinned);
  const steps = useMemo(() => (settled && isThinned ? stepsWithin(lines, scale, settled.from, settled.to) : null), [settled, isThinned, lines, scale]);
  const [from, to] = steps ?? [0, 0];
  const detail = useQuery({
    queryKey: ["series-detail", jobId, metric, from, to],
    queryFn: async ({ signal }) => {
      const query = { names: [metric], from_step: from, to_step: to, max_points: MAX_POINTS };
      return fromPage(await take(api.GET("/api/jobs/{job_id}/series", { params: { path: { job_id: jobId }, query }, signal }))).lines;
    },
    enabled: steps !== null,
    staleTime: Infinity,
    gcTime: KEPT_MS,
    placeholderData: keepPreviousData,
  });
  const found = steps === null ? undefined : detail.data;
  return useMemo(() => (found ? lines.map((line) => spliced(line, found.get(lineKey(line.name, line.attempt, line.writer)))) : lines), [found, lines]);
}

/** The stretch once it has not changed for a moment: a wheel makes many. */
function useSettled(stretch: Stretch | null): Stretch | null {
  const [settled, setSettled] = useState(stretch);
  const [from, to] = [stretch?.from, stretch?.to];
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(from === undefined || to === undefined ? null : { from, to }), PAUSE_MS);
    return () => window.clearTimeout(timer);
  }, [from, to]);
  return stretch === null ? null : settled;
}
