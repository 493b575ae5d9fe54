import { describe, expect, it } from "vitest";
import { ceiling, isPending, marks, points, pointText, standing, timelineOption, type Checkpoint, type Evaluation } from "./timeline";

const WORDS = { best: "best", overFitting: "over-fitting", latest: "latest", left: "left behind", gone: "deleted", band: "95 %" };

const scored = (accuracy: number, marked: Partial<NonNullable<Evaluation["score"]>> = {}): Evaluation => ({
  series: "a", job_id: 1, state: "scored", cause: "",
  score: { num_correct: 10 * accuracy, num_samples: 10, accuracy, interval: [accuracy / 2, (1 + accuracy) / 2], is_best: false, is_over_fitting: false, ...marked },
});

const row = (step: number, evaluations: Evaluation[], changes: Partial<Checkpoint> = {}): Checkpoint => ({
  id: step, ref: `job:1/step:${step}`, average_ref: null, attempt: 1, step, num_bytes: 1, created_at: "2026-01-01T00:00:00Z", is_there: true, is_on_path: true, is_latest: false, is_pinned: false, kept: [], evaluations, ...changes,
});

describe("the timeline of checkpoints", () => {
  const rows = [
    row(30, [scored(0.2, { is_over_fitting: true })], { is_latest: true }),
    row(20, [scored(0.9, { is_best: true })]),
    row(10, [scored(0.5)], { is_on_path: false, is_there: false }),
    row(40, [{ series: "a", job_id: null, state: "waiting", cause: "", score: null }]),
  ];

  it("draws what has a score in the series, by step", () => {
    expect(points(rows, "a").map(({ row: { step } }) => step)).toEqual([10, 20, 30]);
    expect(points(rows, "b")).toEqual([]);
    expect(rows.map((one) => standing(one, "a")?.state)).toEqual(["scored", "scored", "scored", "waiting"]);
  });

  it("says what is marked", () => {
    expect(points(rows, "a").map((point) => marks(point, WORDS))).toEqual([["left behind", "deleted"], ["best"], ["over-fitting", "latest"]]);
    expect(points(rows, "a").map((point) => pointText(point, WORDS))[1]).toBe("20: 90.0 % (9/10)\n95 % 45.0 % – 95.0 %\nbest");
  });

  it("joins only those on the way to the present", () => {
    const { series } = timelineOption(points(rows, "a"), WORDS, false) as { series: { data: unknown[] }[] };
    expect(series.map(({ data }) => data.length)).toEqual([2, 2, 2, 3]);
  });

  it("looks again while an evaluation is to come", () => {
    const timeline = { job_id: 1, has_plan: true, series: [] };
    expect(isPending({ ...timeline, checkpoints: rows })).toBe(true);
    expect(isPending({ ...timeline, checkpoints: rows.slice(0, 3) })).toBe(false);
  });

  it("has an axis that fits", () => {
    expect([0.04, 0.31, 0.8, 1].map(ceiling)).toEqual([0.1, 0.4, 1, 1]);
  });
});
