import { describe, expect, it } from "vitest";
import type { Job } from "../../api/client";
import { merged } from "./merging";

const job = (id: number, state: Job["state"]): Job => ({
  id, state, name: `job-${id}`, kind: "train", algorithm: "sft", cause: "", pipeline: null, parent: null, after: [], priority: "normal", tags: [],
  notes: "", is_pinned: false, is_archived: false, settings: {}, warnings: [],
  model: "tiny-char", data: "sums", seed: 0, step: null, total_steps: null, seconds_per_step: null, attempt: 0,
  created_at: "2026-01-01T00:00:00Z", started_at: null, ended_at: null, last_heard_at: null, verbs: [], requests: [], last_values: {},
});

describe("a job that changed", () => {
  const page = { jobs: [job(2, "queued"), { ...job(1, "running"), settings: { "task.seed": 1 } }], total: 2 };

  it("takes its own place and keeps the settings that were asked for", () => {
    const next = merged(page, job(1, "completed"));
    expect(next.jobs.map((row) => row.state)).toEqual(["queued", "completed"]);
    expect(next.jobs[1]?.settings).toEqual({ "task.seed": 1 });
  });

  it("that is not on the list leaves it as it is", () => {
    expect(merged(page, job(3, "queued"))).toBe(page);
  });
});
