import { describe, expect, it } from "vitest";
import type { Job } from "../../api/client";
import { attention, type Alert, type Devices } from "./attention";

const NOW = Date.parse("2026-06-10T12:00:00Z");

const job = (id: number, state: Job["state"], ended: string | null = null) =>
  ({ id, state, ended_at: ended, last_heard_at: null, created_at: "2026-06-01T00:00:00Z" }) as Job;

const alert = (job_id: number, rule: string, time: string, severity: "info" | "warning" | "error" = "warning"): Alert => ({
  job_id,
  job_name: `job ${job_id}`,
  attempt: 1,
  alert: { type: "alert", seq: 0, time: Date.parse(time) / 1000, rule, severity, message: "", step: null },
});

const devices = (free: number) => ({ disk_free: free, disk_total: 1e12 }) as Devices;

describe("what needs a person", () => {
  it("is nothing while all goes well", () => {
    expect(attention([job(1, "running"), job(2, "completed", "2026-06-10T11:00:00Z")], [], devices(5e11), NOW)).toEqual([]);
  });

  it("puts a full disk before stopped runs, newest first, and those before alerts", () => {
    const jobs = [job(1, "failed", "2026-06-10T10:00:00Z"), job(2, "lost"), job(3, "failed", "2026-06-10T11:00:00Z"), job(4, "paused", "2026-06-09T00:00:00Z")];
    const items = attention(jobs, [alert(7, "nan", "2026-06-10T11:59:00Z")], devices(2e9), NOW);
    expect(items.map((item) => (item.kind === "job" ? item.job.id : item.kind))).toEqual(["disk", 3, 1, 4, 2, "alert"]);
  });

  it("forgets failures and alerts after a week, but not what still stands", () => {
    const jobs = [job(1, "failed", "2026-06-01T10:00:00Z"), job(2, "paused", "2026-05-01T00:00:00Z")];
    const items = attention(jobs, [alert(1, "nan", "2026-06-01T00:00:00Z")], undefined, NOW);
    expect(items.map((item) => item.kind === "job" && item.job.id)).toEqual([2]);
  });

  it("counts an alert storm as one item with its newest alert, errors first, and leaves out what only informs", () => {
    const alerts = [
      alert(1, "loss", "2026-06-10T11:03:00Z"),
      alert(1, "loss", "2026-06-10T11:02:00Z"),
      alert(1, "seen", "2026-06-10T11:02:00Z", "info"),
      alert(2, "nan", "2026-06-10T11:01:00Z", "error"),
    ];
    const items = attention([], alerts, undefined, NOW);
    expect(items).toMatchObject([
      { count: 1, alert: { job_id: 2 } },
      { count: 2, at: "2026-06-10T11:03:00.000Z" },
    ]);
  });
});
