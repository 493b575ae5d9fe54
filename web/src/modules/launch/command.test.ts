import { describe, expect, it } from "vitest";
import { command, overrides, quoted } from "./command";

const RECIPE = { name: "a", tags: [], task: { algorithm: "sft", model: { base: "tiny", lora: null }, rewards: [{ name: "exact", weight: 1 }], optim: { steps: 30, rate: 1e-4 } } };

describe("overrides", () => {
  it("are empty for the recipe itself", () => {
    expect(overrides(RECIPE, structuredClone(RECIPE))).toEqual([]);
  });

  it("name what differs by its dotted key", () => {
    const job = structuredClone(RECIPE);
    job.task.optim.steps = 31;
    job.task.rewards = [{ name: "exact", weight: 2 }];
    expect(overrides(RECIPE, job)).toEqual([{ key: "task.rewards.0.weight", value: 2 }, { key: "task.optim.steps", value: 31 }]);
  });

  it("give a list that grew, and an object that lost a key, as a whole", () => {
    const rewards = [...RECIPE.task.rewards, { name: "format", weight: 0.2 }];
    expect(overrides(RECIPE, { ...RECIPE, task: { ...RECIPE.task, rewards } })).toEqual([{ key: "task.rewards", value: rewards }]);
    const task = { algorithm: "grpo", model: RECIPE.task.model };
    expect(overrides(RECIPE, { ...RECIPE, task })).toEqual([{ key: "task", value: task }]);
    expect(overrides(RECIPE, { ...RECIPE, task: { ...RECIPE.task, model: { base: "tiny", lora: { rank: 4 } } } })).toEqual([{ key: "task.model.lora", value: { rank: 4 } }]);
  });

  it("become words of a command line that a shell leaves alone", () => {
    expect(quoted("a=it's")).toBe("'a=it'\\''s'");
    expect(command("finery run job.yaml", [{ key: "name", value: "my run" }, { key: "tags", value: ["x"] }, { key: "rate", value: 1e-7 }, { key: "base", value: "5" }])).toBe(
      ["finery run job.yaml", "--set 'name=my run'", "--set 'tags=[\"x\"]'", "--set rate=1e-7", "--set 'base=\"5\"'"].join(" \\\n  "),
    );
  });
});
