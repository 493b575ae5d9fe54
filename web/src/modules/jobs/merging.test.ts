import { describe, expect, it } from "vitest";
import type { Job } from "../../api/client";
import { merged } from "./merging";

const job = (id: number, state: Job["state"]): Job => ({
  id, state, name: `job-${id}`, kind: "train", algorithm: "sft", cause: "", pipeline: null, after: [], priority: "normal", tags: [],
  model: "tiny-char", data: "sums", seed: 0, step: null, total_steps: null, seconds_per_step: null, attempt: 0,
  created_at: "2026-01-01T00:00:00Z", started_at: null, ended_at: null, last_heard_at: null, verbs: [], requests: [], last_values: {},
});

describe("a job that changed", () => {
  const page = { jobs: [job(2, "queued"), job(1, "running")], total: 2 };

  it("takes its own place", () => {
    const { page: next, isMissing } = merged(page, job(1, "completed"), []);
    expect(next.jobs.map((row) => row.state)).toEqual(["queued", "completed"]);
    expect(isMissing).toBe(false);
  });

  it("leaves a list whose filter it no longer meets", () => {
    const { page: next } = merged(page, job(1, "completed"), ["queued", "running"]);
    expect(next.jobs.map((row) => row.id)).toEqual([2]);
    expect(next.total).toBe(1);
  });

  it("that is new to the list is asked for, unless the filter excludes it", () => {
    expect(merged(page, job(3, "queued"), []).isMissing).toBe(true);
    expect(merged(page, job(3, "failed"), ["queued"]).isMissing).toBe(false);
  });
});
