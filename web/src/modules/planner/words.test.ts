import { describe, expect, it } from "vitest";
import { translator } from "../../app/i18n";
import { wish } from "./advice";
import { ordered, purposes, scaleOf, type Bar } from "./bars";
import { answerDifferences, inputDifferences, ratioText } from "./differences";
import { messageOf, said } from "./phrases";
import { DEFAULT, type PlanView, type WayView } from "./plan";
import { gib, ofUsable, seconds, wayWords } from "./words";
import { ApiError } from "../../api/client";

const GIB = 1024 ** 3;
const t = translator("en");
const zh = translator("zh");

const WAY = {
  engine: "verl",
  rank: null,
  quantize: "none",
  sharding: "megatron",
  tensor: 4,
  pipeline: 2,
  context: 1,
  expert: 1,
  micro_batch: 8,
  accumulation: 2,
  recomputation: "full",
  offload: "between",
  num_generating: 0,
  rollout_tensor: 2,
  rollout_share: 0.35,
  peak_bytes: 40 * GIB,
  share_of_device: 0.5,
  tokens_per_second: 1000,
  seconds_per_step: 10,
  mfu: 0.4,
  host_bytes: 10 * GIB,
} as WayView;
const VIEW = { best: WAY, others: [], fits: true, longest_context: 4096, disk_bytes: 100 * GIB, cost: null } as unknown as PlanView;

describe("sizes and times", () => {
  it("have one decimal of GiB", () => {
    expect(gib(65.24 * GIB)).toBe("65.2");
    expect(gib(1354.3 * GIB)).toBe("1,354.3");
    expect(ofUsable(36 * GIB, 72 * GIB, t)).toBe("36.0 of 72.0 GiB usable (50.0 %)");
  });

  it("have units that fit", () => {
    expect([0, 0.0312, 4.2271, 163, 8000].map(seconds)).toEqual(["0 s", "31.2 ms", "4.227 s", "2 min 43 s", "2.222 h"]);
  });
});

describe("a way in words", () => {
  it("names what is not usual", () => {
    expect(wayWords(WAY, t)).toBe("Megatron TP 4 PP 2, micro batch 8 × 2, recomputation, offloaded during rollouts, vLLM TP 2, 35 % of memory");
    expect(wayWords({ ...WAY, sharding: "none", tensor: 1, pipeline: 1, recomputation: "none", offload: "none", rollout_share: null }, zh)).toBe("单卡，微批 8 × 2 次累积");
  });

  it("names what is trained, where that is not all", () => {
    expect(wayWords({ ...WAY, rank: 16 }, t)).toMatch(/^LoRA, Megatron/);
    expect(wayWords({ ...WAY, rank: 16, quantize: "nf4_double" }, t)).toMatch(/^LoRA on 4-bit weights, /);
    expect(wayWords({ ...WAY, rank: 16, quantize: "int8" }, zh)).toMatch(/^8 位权重上的 LoRA，/);
  });
});

describe("sentences of the server", () => {
  it("are said in the page's language", () => {
    expect(said("needs 74.6 GiB of 73.8 to update critic", zh)).toBe("更新价值模型阶段需要 74.6 GiB，可用 73.8 GiB");
    expect(said("it does not fit, even with LoRA on 4-bit weights: at least 9.5 GiB a device, of which 7.1 of X 8GB can be used", zh)).toContain("9.5");
    expect(said("trains update matrices alone, in 54% of the time", zh)).toBe("只训练增量矩阵，用时为 54%");
    expect(said("would fit: LoRA on 4-bit weights and 2 devices", zh)).toContain("2 张卡");
    expect(said("accelerator 'foo' is not known; did you mean A, B or C? For a device", t)).toContain("did you mean A, B or C?");
    expect(said("only 5.0 GiB are left beside the margin of 6%; try it before it is queued", t)).toBe("only 5.0 GiB are left beside the margin of 6%; try it before it is queued");
    const refusal = "ppo on 8 x A100 cannot be divided as asked (sharding: megatron, rollouts: trainer, LoRA on 4-bit weights); all weights and rollouts: colocated, or without sharding would be right";
    expect(said(refusal, zh)).toBe("8 × A100 上的 ppo 无法按要求切分（切分方式：Megatron；采样方式：由训练器采样；4 位权重上的 LoRA）。可行的改法：全部权重 + 采样方式：推理引擎，共用卡；或：去掉“切分方式”");
    expect(said(refusal, t)).toContain("(Sharding: Megatron, Rollouts: by the trainer, LoRA on 4-bit weights). What would do: all weights + Rollouts: engine, same GPUs, or without “Sharding”");
  });

  it("stay as they are where they are new", () => {
    expect(said("something {else}", zh)).toBe("something {else}");
  });

  it("of an error are on one line", () => {
    expect(messageOf(new ApiError(422, "invalid_spec", "wrong", [{ path: "body.batch", message: "too small", line: null }, { path: "body", message: "Value error, also", line: null }]))).toBe("batch: too small; also");
    expect(messageOf(new Error("plain"))).toBe("plain");
  });
});

describe("advice", () => {
  it("changes the plan so that it fits", () => {
    expect(wish("would fit: LoRA on 4-bit weights and 24 devices", DEFAULT)).toEqual({ lora: true, quantize: "nf4_double", num_gpus: 24, batch: 72 });
    expect(wish("would fit: a context of 1024", { ...DEFAULT, completion: 2000 })).toEqual({ context: 1024, completion: 1023 });
    expect(wish("it does not fit: at least 2 GiB a device, of which 1 of X can be used", DEFAULT)).toBeNull();
  });
});

describe("differences", () => {
  it("are the inputs that are not the same, with their ratio", () => {
    const other = { ...DEFAULT, context: 4096, lora: false, fixed: { ...DEFAULT.fixed, tensor: 2 } };
    expect(inputDifferences(DEFAULT, DEFAULT, t)).toEqual([]);
    expect(inputDifferences(DEFAULT, other, t).map(({ key, a, b, ratio }) => [key, a, b, ratio])).toEqual([
      ["context", "2,048", "4,096", 2],
      ["lora", "LoRA", "all weights", null],
      ["fixed.tensor", "–", "2", null],
    ]);
  });

  it("name choices as the form does", () => {
    const [row] = inputDifferences({ ...DEFAULT, algorithm: "dpo" }, { ...DEFAULT, algorithm: "reward" }, zh);
    expect(row).toMatchObject({ a: "DPO", b: "奖励模型", ratio: null });
    const [fixed] = inputDifferences(DEFAULT, { ...DEFAULT, fixed: { ...DEFAULT.fixed, offload: "between" } }, t);
    expect(fixed).toMatchObject({ label: "Offload", b: "during rollouts" });
  });

  it("leave out what is not asked of the server", () => {
    expect(inputDifferences({ ...DEFAULT, completion: 5 }, DEFAULT, t)).toEqual([]);
  });

  it("are the numbers of the answers", () => {
    const dear = { ...VIEW, best: { ...WAY, peak_bytes: 60 * GIB }, cost: { steps: 1, tokens: 1, hours: 2, device_hours: 16, price: 32 } };
    const rows = Object.fromEntries(answerDifferences(VIEW, dear, t).map((row) => [row.key, row]));
    expect(rows.peak).toMatchObject({ a: "40.0 GiB", b: "60.0 GiB", ratio: 1.5 });
    expect(rows.price).toMatchObject({ a: "–", b: "32.00", ratio: null });
    expect([ratioText(1.5), ratioText(null)]).toEqual(["×1.50", ""]);
  });
});

describe("bars", () => {
  const bar = (sizes: Record<string, number>): Bar => ({ key: "a", label: "a", fits: true, bytes: Object.values(sizes).reduce((a, b) => a + b, 0), parts: Object.entries(sizes).map(([name, bytes]) => ({ name, bytes })) });

  it("have their parts in one order", () => {
    expect(ordered([{ name: "workspace" }, { name: "new" }, { name: "weights" }]).map(({ name }) => name)).toEqual(["weights", "workspace", "new"]);
    expect(purposes([bar({ logits: 1, cache: 0 }), bar({ weights: 1, logits: 2 })])).toEqual(["weights", "logits"]);
  });

  it("share a scale that holds the device and the longest", () => {
    expect(scaleOf([bar({ weights: 10 * GIB })], 80 * GIB).ticks).toEqual([0, 20, 40, 60, 80]);
    expect(scaleOf([bar({ weights: 700 * GIB })], 80 * GIB).end).toBeGreaterThan(700 * GIB);
    expect(scaleOf([bar({ weights: GIB / 100 })], GIB / 2).ticks.length).toBeGreaterThan(2);
  });
});
