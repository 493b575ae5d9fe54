/** Job files to start from. They are the recipes of the same names. */
import type { Key } from "../../app/i18n";

export const TEMPLATES: { key: Key; text: string }[] = [
  {
    key: "launch.tinyGrpo",
    text: `name: tiny-grpo
kind: train
task:
  algorithm: grpo
  model: {base: tiny-char}
  data: {train: sums, max_prompt_tokens: 64}
  rewards:
    - {name: exact, weight: 1.0}
    - {name: format, weight: 0.2, params: {pattern: '^-?\\d+$'}}
  optim: {learning_rate: 1.0e-4, steps: 30}
  rollout: {completions_per_prompt: 8, max_new_tokens: 6}
  prompts_per_step: 4
resources: {cpu_threads: 1}
monitoring: {checkpoint_interval: 10}
`,
  },
  {
    key: "launch.tinySft",
    text: `name: tiny-sft
kind: train
task:
  algorithm: sft
  model: {base: tiny-char}
  data: {train: sums-sft, max_tokens: 128}
  optim: {learning_rate: 1.0e-3, steps: 60, warmup_steps: 5, schedule: linear}
  batch_size: 32
resources: {cpu_threads: 1}
monitoring: {checkpoint_interval: 20}
`,
  },
  {
    key: "launch.evaluate",
    text: `name: tiny-evaluate
kind: evaluate
task:
  model: {base: tiny-char}
  benchmark: {name: arithmetic}
  data: sums
  max_new_tokens: 6
resources: {cpu_threads: 1}
`,
  },
];
