/** What a person should look at, the most pressing first. Pure. */
import type { Job, Schemas } from "../../api/client";

export type Devices = Schemas["DevicesView"];
export type Alert = Schemas["AlertView"];

/** Older failures and alerts are history. */
export const RECENT_MS = 7 * 24 * 3600 * 1000;
const MIN_FREE_BYTES = 10e9;
const MIN_FREE_SHARE = 0.03;

export type Item =
  | { kind: "disk"; free: number; total: number }
  | { kind: "job"; job: Job; at: string }
  | { kind: "alert"; alert: Alert; count: number; at: string };

const SEVERITY = { error: 0, warning: 1, info: 2 } as const;

/**
 * A full disk first, then jobs that failed, are out of contact or paused, then alerts; newest first within each.
 * Alerts of one rule and one job are one item.
 */
export function attention(jobs: Job[], alerts: Alert[], devices: Devices | undefined, now: number): Item[] {
  const isRecent = (moment: string | null) => moment !== null && now - new Date(moment).getTime() < RECENT_MS;
  const disk: Item[] =
    devices && devices.disk_free < Math.min(MIN_FREE_BYTES, MIN_FREE_SHARE * devices.disk_total)
      ? [{ kind: "disk", free: devices.disk_free, total: devices.disk_total }]
      : [];
  const stopped = jobs
    .filter((job) => job.state === "lost" || job.state === "paused" || (job.state === "failed" && isRecent(job.ended_at)))
    .map((job): Item & { kind: "job" } => ({ kind: "job", job, at: job.ended_at ?? job.last_heard_at ?? job.created_at }));
  const told = grouped(alerts)
    .filter((item) => item.alert.alert.severity !== "info" && isRecent(item.at))
    .sort((a, b) => SEVERITY[a.alert.alert.severity] - SEVERITY[b.alert.alert.severity]);
  return [...disk, ...stopped.sort((a, b) => b.at.localeCompare(a.at)), ...told];
}

/** One item for each rule and job, with its newest alert. The alerts come newest first. */
function grouped(alerts: Alert[]): (Item & { kind: "alert" })[] {
  const found = new Map<string, Item & { kind: "alert" }>();
  for (const alert of alerts) {
    const key = `${alert.job_id} ${alert.alert.rule}`;
    const before = found.get(key);
    if (before) before.count += 1;
    else found.set(key, { kind: "alert", alert, count: 1, at: new Date(1000 * alert.alert.time).toISOString() });
  }
  return [...found.values()];
}
