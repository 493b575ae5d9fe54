import { describe, expect, it } from "vitest";
import type { JobDetail } from "../../api/client";
import { beginningOf, followsSchedule, inEffect, newestWish, readNumber, type Wish } from "./settings";

const wish = (id: number, outcome: Wish["outcome"], values: Wish["values"], verb: Wish["verb"] = "set"): Wish => ({ id, verb, values, by: "browser", requested_at: "2026-01-01T00:00:00Z", outcome, message: "", undoes: null });
const job = (changes: object) => ({ controls: null, last_values: {}, requests: [], answered: [], attempts: [], ...changes }) as unknown as JobDetail;

describe("live settings", () => {
  it("follow the schedule of the learning rate, and else what the run has told", () => {
    const run = job({ controls: { learning_rate: 1e-4, kl_coef: 0.1 }, last_values: { learning_rate: 4e-5, kl_coef: 9 } });
    expect([inEffect(run, "learning_rate"), inEffect(run, "kl_coef"), inEffect(run, "temperature")]).toEqual([4e-5, 0.1, null]);
  });

  it("show the newest wish about them: an open one before an answered one", () => {
    const answered = [wish(3, "rejected", { kl_coef: -1 }), wish(2, "applied", { kl_coef: 1 })];
    expect(newestWish(job({ answered }), "kl_coef")?.id).toBe(3);
    expect(newestWish(job({ answered, requests: [wish(4, "requested", { kl_coef: 2 }), wish(5, "delivered", { kl_coef: 3 }), wish(6, "requested", {}, "pause")] }), "kl_coef")?.id).toBe(5);
    expect(newestWish(job({ answered }), "temperature")).toBeNull();
  });

  it("know whether the learning rate moves by itself", () => {
    const rate = (optim: object) => followsSchedule(job({ spec: { task: { optim } } }));
    expect([rate({ schedule: "constant", warmup_steps: 0 }), rate({ schedule: "constant", warmup_steps: 5 }), rate({ schedule: "cosine" })]).toEqual([false, true, true]);
    expect(followsSchedule(job({ spec: {} }))).toBe(false);
  });

  it("are written as numbers", () => {
    expect(["5e-6", " 0.1 ", "0", "-1", "", "fast", "1e999", "1,5"].map(readNumber)).toEqual([5e-6, 0.1, 0, -1, null, null, null, null]);
  });
});

describe("where an attempt began", () => {
  const back = { rule: "nan", message: "", attempt: 1, step: 12, to_step: 10, checkpoint: null, saved: null };

  it("is after the rollback that led to it, and no later attempt's", () => {
    const second = { number: 2, resumed_from: "job:4/step:10", skipped_steps: [12], rollbacks: [back] };
    expect(beginningOf(job({ attempts: [second] }))).toEqual({ from: "job:4/step:10", skipped: [12], rollback: back, attempt: 2 });
    expect(beginningOf(job({ attempts: [{ ...second, number: 3 }] })).rollback).toBeNull();
  });

  it("is the beginning without an attempt", () => {
    expect(beginningOf(job({}))).toEqual({ from: null, skipped: [], rollback: null, attempt: 0 });
  });
});
