import { describe, expect, it } from "vitest";
import { edited, read, withRecipe } from "./document";

const TEXT = `# What it is for.
name: tiny   # short

kind: train
task:
  algorithm: grpo
  model: {base: tiny-char}
  rewards:
    - {name: exact, weight: 1.0}
    - {name: format, weight: 0.2, params: {pattern: '^-?\\d+$'}}
  optim: {learning_rate: 1.0e-4, steps: 30}   # slow
  # how completions are drawn
  rollout: {completions_per_prompt: 8}
`;

const lines = (text: string) => text.split("\n");
/** Lines that are not in both. */
const changed = (after: string) => lines(after).filter((line) => !lines(TEXT).includes(line));

describe("editing a job file", () => {
  it("replaces one value and leaves every other character", () => {
    const after = edited(TEXT, [{ path: ["task", "optim", "steps"], value: 31 }]);
    expect(after).toBe(TEXT.replace("steps: 30", "steps: 31"));
  });

  it("replaces in a list", () => {
    const after = edited(TEXT, [{ path: ["task", "rewards", 1, "weight"], value: 0.5 }]);
    expect(after).toBe(TEXT.replace("0.2", "0.5"));
  });

  it("adds a key and keeps comments, quotes and numbers as they were written", () => {
    const after = edited(TEXT, [{ path: ["task", "optim", "warmup_steps"], value: 5 }]);
    expect(changed(after)).toEqual(["name: tiny # short", "  optim: {learning_rate: 1.0e-4, steps: 30, warmup_steps: 5} # slow"]);
  });

  it("makes what is missing on the way", () => {
    const after = edited(TEXT, [{ path: ["monitoring", "checkpoint_interval"], value: 10 }]);
    expect(read(after).values.monitoring).toEqual({ checkpoint_interval: 10 });
    expect(after).toContain("# how completions are drawn");
  });

  it("takes a key out", () => {
    const after = edited(TEXT, [{ path: ["task", "optim", "steps"], value: undefined }]);
    expect((read(after).values.task as { optim: unknown }).optim).toEqual({ learning_rate: 1e-4 });
    expect(edited(TEXT, [{ path: ["task", "nothing"], value: undefined }])).toBe(TEXT);
  });

  it("adds to a list and removes from it", () => {
    const more = edited(TEXT, [{ path: ["task", "rewards", 2], value: { name: "math_equal" } }]);
    const fewer = edited(more, [{ path: ["task", "rewards", 0], value: undefined }]);
    expect((read(fewer).values.task as { rewards: { name: string }[] }).rewards.map((reward) => reward.name)).toEqual(["format", "math_equal"]);
  });

  it.each(["job:4/last", "true", "1e5", "a, b", "- x", "", "line\nline", "x: y", "#no", "中文", "'", "{a}"])("keeps the text %j a text", (value) => {
    expect(read(edited(TEXT, [{ path: ["task", "model", "base"], value }])).values.task).toMatchObject({ model: { base: value } });
    expect(read(edited(TEXT, [{ path: ["task", "model", "extra"], value }])).values.task).toMatchObject({ model: { extra: value } });
  });

  it("writes small numbers as people do", () => {
    expect(edited(TEXT, [{ path: ["task", "optim", "learning_rate"], value: 0.00002 }])).toContain("learning_rate: 2e-5,");
  });

  it("keeps an empty value empty", () => {
    const after = edited("name: a\nseed:\n", [{ path: ["tags"], value: ["x"] }]);
    expect(read(after).values).toEqual({ name: "a", seed: null, tags: ["x"] });
    expect(read(edited("name: a\nseed:\n", [{ path: ["seed"], value: 3 }])).values.seed).toBe(3);
  });

  it("begins with nothing", () => {
    expect(read(edited("", [{ path: ["task", "model", "base"], value: "tiny-char" }])).values).toEqual({ task: { model: { base: "tiny-char" } } });
    expect(read(edited("# only a comment\n", [{ path: ["name"], value: "a" }])).values).toEqual({ name: "a" });
  });

  it("leaves text alone that it cannot read", () => {
    expect(edited("name: [", [{ path: ["name"], value: "a" }])).toBe("name: [");
    expect(read("name: [").error).not.toBeNull();
    expect(read("- 1\n").error).not.toBeNull();
    expect(read("a: &x 1\nb: *x\n").error).not.toBeNull();
  });
});

describe("the recipe of a job file", () => {
  it("is one line before the first key", () => {
    const named = withRecipe(TEXT, "tiny_grpo");
    expect(named).toContain("# What it is for.\nrecipe: tiny_grpo\nname: tiny");
    expect(withRecipe(withRecipe(named, "mine"), null)).toBe(TEXT);
  });
});
