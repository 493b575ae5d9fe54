/** What is planned: its fields, their defaults on the page, and the address that holds them. Pure. */
import type { Schemas } from "../../api/client";

export type PlanRequest = Schemas["PlanRequest"];
export type PlanView = Schemas["PlanView"];
export type WayView = Schemas["WayView"];
export type Fixed = Required<Schemas["FixedSpec"]>;
/** Every field has a value. */
export type Plan = Required<Omit<PlanRequest, "fixed">> & { fixed: Fixed };
export type Change = (changes: Partial<Plan>) => void;

export const ALGORITHMS = ["pretrain", "sft", "reward", "dpo", "kto", "orpo", "ppo", "grpo", "rloo"] as const satisfies readonly Plan["algorithm"][];
export const QUANTIZATIONS = ["none", "int8", "nf4", "nf4_double", "int4"] as const satisfies readonly Plan["quantize"][];
export const OPTIMIZERS = ["adamw", "adamw_8bit", "adamw_paged_8bit", "adafactor", "sgd", "sgd_momentum", "lion", "muon"] as const satisfies readonly Plan["optimizer"][];
export const NUMBERS = ["bf16", "mixed", "fp32"] as const satisfies readonly Plan["numbers"][];
export const ROLLOUTS = ["trainer", "colocated", "apart"] as const satisfies readonly Plan["rollouts"][];
export const SHARDINGS = ["none", "ddp", "zero1", "zero2", "zero3", "fsdp", "megatron"] as const satisfies readonly Fixed["sharding"][];
export const RECOMPUTATIONS = ["none", "full"] as const satisfies readonly Fixed["recomputation"][];
export const OFFLOADS = ["none", "optimizer", "all", "between"] as const satisfies readonly Fixed["offload"][];

const NONE_FIXED: Fixed = {
  sharding: null,
  tensor: null,
  pipeline: null,
  context: null,
  expert: null,
  micro_batch: null,
  recomputation: null,
  offload: null,
  rollout_tensor: null,
  rollout_share: null,
};

export const DEFAULT: Plan = {
  model: "Qwen/Qwen2.5-7B",
  config: null,
  params: null,
  gpu: "NVIDIA A100 SXM4 80GB",
  num_gpus: 8,
  gpus_per_host: 8,
  algorithm: "sft",
  context: 2048,
  completion: null,
  batch: 64,
  lora: true,
  rank: 16,
  dora: false,
  quantize: "none",
  optimizer: "adamw",
  numbers: "bf16",
  flash: true,
  liger: false,
  kl: true,
  critic: true,
  rollouts: "trainer",
  margin: 0.06,
  host_gib: null,
  steps: null,
  tokens: null,
  hourly: null,
  calibrated: false,
  fixed: NONE_FIXED,
};

type Codec = { write: (value: unknown) => string; read: (text: string) => unknown };

const TEXT: Codec = { write: String, read: (text) => text || undefined };
const FLAG: Codec = { write: (value) => (value ? "1" : "0"), read: (text) => (text === "1" ? true : text === "0" ? false : undefined) };
/** What is trained, in the address and in the form. */
export const TRAINED = ["auto", "0", "1"] as const;
const LORA: Codec = { write: trainedName, read: (text) => (text === "auto" ? null : FLAG.read(text)) };
const NUMBER: Codec = {
  write: String,
  read: (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined),
};
const OBJECT: Codec = { write: (value) => JSON.stringify(value), read: parsedConfig };

function oneOf(names: readonly string[]): Codec {
  return { write: String, read: (text) => (names.includes(text) ? text : undefined) };
}

type Field<T> = { [Name in keyof T]: [name: Name, key: string, codec: Codec] }[keyof T];

const FIELDS: Field<Omit<Plan, "fixed">>[] = [
  ["model", "model", TEXT],
  ["config", "config", OBJECT],
  ["params", "b", NUMBER],
  ["gpu", "gpu", TEXT],
  ["num_gpus", "n", NUMBER],
  ["gpus_per_host", "host", NUMBER],
  ["algorithm", "alg", oneOf(ALGORITHMS)],
  ["context", "ctx", NUMBER],
  ["completion", "out", NUMBER],
  ["batch", "batch", NUMBER],
  ["lora", "lora", LORA],
  ["rank", "rank", NUMBER],
  ["dora", "dora", FLAG],
  ["quantize", "q", oneOf(QUANTIZATIONS)],
  ["optimizer", "opt", oneOf(OPTIMIZERS)],
  ["numbers", "num", oneOf(NUMBERS)],
  ["flash", "flash", FLAG],
  ["liger", "liger", FLAG],
  ["kl", "kl", FLAG],
  ["critic", "critic", FLAG],
  ["rollouts", "gen", oneOf(ROLLOUTS)],
  ["margin", "margin", NUMBER],
  ["host_gib", "ram", NUMBER],
  ["steps", "steps", NUMBER],
  ["tokens", "tokens", NUMBER],
  ["hourly", "price", NUMBER],
  ["calibrated", "cal", FLAG],
];

const FIXED_FIELDS: Field<Fixed>[] = [
  ["sharding", "sh", oneOf(SHARDINGS)],
  ["tensor", "tp", NUMBER],
  ["pipeline", "pp", NUMBER],
  ["context", "cp", NUMBER],
  ["expert", "ep", NUMBER],
  ["micro_batch", "mb", NUMBER],
  ["recomputation", "rc", oneOf(RECOMPUTATIONS)],
  ["offload", "off", oneOf(OFFLOADS)],
  ["rollout_tensor", "rtp", NUMBER],
  ["rollout_share", "rsh", NUMBER],
];

/** Name of the plan that is kept beside, in the address. */
export const KEPT = "vs";

/** The address of a plan: what differs from the default. */
export function encode(plan: Plan, kept: Plan | null = null): string {
  const found = new URLSearchParams();
  const add = (value: unknown, usual: unknown, key: string, codec: Codec) => {
    if (value !== usual) found.set(key, codec.write(value));
  };
  for (const [name, key, codec] of FIELDS) {
    if (name === "model" && plan.model === "") continue; // its size or its config stands for it
    add(plan[name], DEFAULT[name], key, codec);
  }
  for (const [name, key, codec] of FIXED_FIELDS) add(plan.fixed[name], null, key, codec);
  if (kept) found.set(KEPT, encode(kept) || "-");
  return found.toString();
}

/** The plan of an address. What it does not name, or names wrong, is the default. */
export function decode(address: URLSearchParams): Plan {
  const read = (fields: [string, string, Codec][]) =>
    Object.fromEntries(
      fields.flatMap(([name, key, codec]) => {
        const text = address.get(key);
        const value = text === null ? undefined : codec.read(text);
        return value === undefined ? [] : [[name, value]];
      }),
    );
  const plan: Plan = { ...DEFAULT, ...read(FIELDS), fixed: { ...NONE_FIXED, ...read(FIXED_FIELDS) } };
  if (plan.config !== null) return { ...plan, model: "", params: null };
  return plan.params === null ? plan : { ...plan, model: "" };
}

export function decodeKept(address: URLSearchParams): Plan | null {
  const text = address.get(KEPT);
  return text === null ? null : decode(new URLSearchParams(text));
}

const GENERATES: readonly Plan["algorithm"][] = ["ppo", "grpo", "rloo"];
const REFERS: readonly Plan["algorithm"][] = ["dpo", "kto", "ppo", "grpo", "rloo"];

/** Whether an algorithm learns from completions of its own. */
export const generates = (plan: Plan): boolean => GENERATES.includes(plan.algorithm);
/** Whether an algorithm may keep a reference model. */
export const refers = (plan: Plan): boolean => REFERS.includes(plan.algorithm);
/** Whether an engine of its own generates the completions. */
export const hasEngine = (plan: Plan): boolean => generates(plan) && plan.rollouts !== "trainer";

/** What is asked of the server: what the form does not show is not asked for. */
export function asRequest(plan: Plan): PlanRequest {
  const fixed = hasEngine(plan) ? plan.fixed : { ...plan.fixed, rollout_tensor: null, rollout_share: null };
  return {
    ...plan,
    completion: generates(plan) ? plan.completion : null,
    rollouts: generates(plan) ? plan.rollouts : "trainer",
    dora: plan.lora === true && plan.dora,
    quantize: plan.lora === true ? plan.quantize : "none",
    fixed,
  };
}

/** Name of what is trained: what fits, all weights, update matrices. */
export function trainedName(lora: unknown): (typeof TRAINED)[number] {
  return lora === null ? "auto" : lora === true ? "1" : "0";
}

export function trainedOf(name: string): boolean | null {
  return name === "auto" ? null : name === "1";
}

/** A plan of this way, so that nothing of it is searched. */
export function pinned(way: WayView): Partial<Plan> {
  return { lora: way.rank !== null, quantize: way.quantize, fixed: pinsOf(way) };
}

/** The knobs of a way. */
export function pinsOf(way: WayView): Fixed {
  return {
    sharding: way.sharding,
    tensor: way.tensor,
    pipeline: way.pipeline,
    context: way.context,
    expert: way.expert,
    micro_batch: way.micro_batch,
    recomputation: way.recomputation,
    offload: way.offload,
    rollout_tensor: way.rollout_tensor,
    rollout_share: way.rollout_share,
  };
}

export function numFixed(fixed: Fixed): number {
  return Object.values(fixed).filter((value) => value !== null).length;
}

export const searchAll = (): Fixed => NONE_FIXED;

/** The recommended way; where nothing fits, the one that takes least. */
export function shownWay(answer: PlanView): WayView | undefined {
  return answer.best ?? [...answer.others].sort((a, b) => a.peak_bytes - b.peak_bytes)[0];
}

/** Whether a way that fits can be a job file. */
export const canApply = (answer: PlanView): boolean => [answer.best, ...answer.others].some((way) => way?.fits === true && way.engine !== "accelerate");

/** What says nothing of a model's shape and would only lengthen the address. */
const BESIDE_SHAPE = /^(id2label|label2id|task_specific_params|transformers_version|auto_map|vision_config|audio_config|architectures|.*_token_ids?|torch_dtype|dtype|rope_scaling|rope_parameters|quantization_config|layer_types)$/;

/** A `config.json` as it is sent; undefined where the text is none. */
export function parsedConfig(text: string): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== "object" || found === null || Array.isArray(found)) return undefined;
    return shapeOf(found as Record<string, unknown>);
  } catch {
    return undefined;
  }
}

function shapeOf(config: Record<string, unknown>): Record<string, unknown> {
  const inner = config.text_config;
  const kept = Object.entries(config).filter(([name]) => !BESIDE_SHAPE.test(name));
  if (typeof inner !== "object" || inner === null) return Object.fromEntries(kept);
  return Object.fromEntries(kept.map(([name, value]) => [name, name === "text_config" ? shapeOf(inner as Record<string, unknown>) : value]));
}

/** Contexts that the slider stops at: powers of two and one between each two. */
export const CONTEXTS: readonly number[] = Array.from({ length: 17 }, (_, at) => 512 * 2 ** (at >> 1) * (at % 2 ? 1.5 : 1));

/** Numbers of devices and of sequences that sliders stop at. */
export const POWERS: readonly number[] = Array.from({ length: 13 }, (_, at) => 2 ** at);

/** The stop that is nearest on a logarithmic scale. */
export function nearestStop(value: number, stops: readonly number[] = CONTEXTS): number {
  const distance = (stop: number) => Math.abs(Math.log(Math.max(1, value) / stop));
  return stops.reduce((best, stop, at) => (distance(stop) < distance(stops[best] ?? 1) ? at : best), 0);
}
