import { describe, expect, it } from "vitest";
import { asRequest, CONTEXTS, decode, decodeKept, DEFAULT, encode, nearestStop, numFixed, parsedConfig, pinned, pinsOf, type Plan, type WayView } from "./plan";

const back = (plan: Plan) => decode(new URLSearchParams(encode(plan)));

const OTHER: Plan = {
  model: "meta-llama/Llama-3.1-8B",
  config: null,
  params: null,
  gpu: "M3 Max 64GB",
  num_gpus: 16,
  gpus_per_host: 4,
  algorithm: "ppo",
  context: 12345,
  completion: 100,
  batch: 256,
  lora: false,
  rank: 64,
  dora: true,
  quantize: "nf4_double",
  optimizer: "adamw_paged_8bit",
  numbers: "mixed",
  flash: false,
  liger: true,
  kl: false,
  critic: false,
  rollouts: "apart",
  margin: 0.1,
  host_gib: 512,
  steps: 1000,
  tokens: null,
  hourly: 0,
  calibrated: true,
  fixed: { sharding: "megatron", tensor: 4, pipeline: 2, context: 2, expert: 8, micro_batch: 1, recomputation: "none", offload: "between", rollout_tensor: 2, rollout_share: 0.35 },
};

describe("a plan in the address", () => {
  it("is nothing where all is as usual", () => {
    expect(encode(DEFAULT)).toBe("");
    expect(decode(new URLSearchParams())).toEqual(DEFAULT);
  });

  it("comes back whole", () => {
    expect(back(OTHER)).toEqual(OTHER);
  });

  it("says what is trained, also where that is searched", () => {
    for (const lora of [true, false, null]) expect(back({ ...DEFAULT, lora })).toEqual({ ...DEFAULT, lora });
    expect(encode({ ...DEFAULT, lora: null })).toBe("lora=auto");
  });

  it("holds only what differs", () => {
    expect(encode({ ...DEFAULT, context: 4096, fixed: { ...DEFAULT.fixed, tensor: 2 } })).toBe("ctx=4096&tp=2");
  });

  it("comes back with a size and with a config in place of a name", () => {
    const sized = { ...DEFAULT, model: "", params: 13.5 };
    const own = { ...DEFAULT, model: "", config: { hidden_size: 64, model_type: "llama", text: "a & b=c" } };
    expect(back(sized)).toEqual(sized);
    expect(back(own)).toEqual(own);
  });

  it("takes the default for what is written wrong", () => {
    expect(decode(new URLSearchParams("n=many&alg=magic&lora=perhaps&config=[1]&sh=cut&ctx=&nothing=1"))).toEqual(DEFAULT);
  });

  it("holds the plan that is kept beside", () => {
    const address = new URLSearchParams(encode(OTHER, DEFAULT));
    expect(decode(address)).toEqual(OTHER);
    expect(decodeKept(address)).toEqual(DEFAULT);
    expect(decodeKept(new URLSearchParams(encode(DEFAULT, OTHER)))).toEqual(OTHER);
    expect(decodeKept(new URLSearchParams(encode(DEFAULT)))).toBeNull();
  });
});

describe("what is asked of the server", () => {
  it("leaves out what the form does not show", () => {
    const asked = asRequest({ ...OTHER, algorithm: "sft", lora: false });
    expect(asked).toMatchObject({ completion: null, rollouts: "trainer", quantize: "none", fixed: { tensor: 4, rollout_tensor: null, rollout_share: null } });
    expect(asRequest({ ...OTHER, lora: null })).toMatchObject({ lora: null, dora: false, quantize: "none" });
    expect(asRequest({ ...OTHER, lora: true })).toEqual({ ...OTHER, lora: true });
  });
});

describe("a config", () => {
  it("is kept without what says nothing of a shape", () => {
    expect(parsedConfig('{"hidden_size": 8, "id2label": {"0": "a"}, "bos_token_id": 1, "text_config": {"layers": 2, "torch_dtype": "x"}}')).toEqual({ hidden_size: 8, text_config: { layers: 2 } });
  });

  it("must be an object", () => {
    for (const text of ["", "{", "[]", "null", "3"]) expect(parsedConfig(text)).toBeUndefined();
  });
});

describe("knobs", () => {
  it("of a way are all fixed but those that it does not have", () => {
    const way = { sharding: "fsdp", tensor: 1, pipeline: 1, context: 1, expert: 1, micro_batch: 2, recomputation: "full", offload: "none", rollout_tensor: null, rollout_share: null } as WayView;
    expect(numFixed(pinsOf(way))).toBe(8);
    expect(numFixed(DEFAULT.fixed)).toBe(0);
  });

  it("of a way come with what it trains", () => {
    const way = { sharding: "fsdp", rank: 16, quantize: "nf4_double" } as WayView;
    expect(pinned(way)).toMatchObject({ lora: true, quantize: "nf4_double", fixed: { sharding: "fsdp" } });
    expect(pinned({ ...way, rank: null, quantize: "none" })).toMatchObject({ lora: false, quantize: "none" });
  });

  it("of the context stop at powers of two and between", () => {
    expect(CONTEXTS.slice(0, 4)).toEqual([512, 768, 1024, 1536]);
    expect(CONTEXTS.at(-1)).toBe(131072);
    expect(CONTEXTS[nearestStop(2000)]).toBe(2048);
    expect(CONTEXTS[nearestStop(2)]).toBe(512);
    expect(CONTEXTS[nearestStop(10_000_000)]).toBe(131072);
  });
});
