/** Sizes and ways as text. Pure. */
import { duration, number, percent } from "../../app/format";
import type { Key, Translate } from "../../app/i18n";
import type { WayView } from "./plan";

const GIB = 1024 ** 3;
const ONE_DECIMAL = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const PRICE = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** "65.2" for 65.2 GiB of bytes. */
export const gib = (bytes: number): string => ONE_DECIMAL.format(bytes / GIB);
export const gibText = (bytes: number): string => `${gib(bytes)} GiB`;
export const inGib = (bytes: number): number => bytes / GIB;
export const price = (amount: number): string => PRICE.format(amount);

/** A time of any length: "31 ms", "4.227 s", "3 min 20 s", "5.12 h". */
export function seconds(value: number): string {
  if (value > 0 && value < 1) return `${number(1000 * value, 3)} ms`;
  if (value < 120) return `${number(value)} s`;
  if (value < 7200) return duration(Math.round(value));
  return `${number(value / 3600)} h`;
}

const SHORT_NAMES: Record<WayView["sharding"], string> = { none: "", ddp: "DDP", zero1: "ZeRO 1", zero2: "ZeRO 2", zero3: "ZeRO 3", fsdp: "FSDP", megatron: "Megatron" };
export const ENGINES: Record<WayView["engine"], string> = { trl: "TRL", verl: "verl", accelerate: "accelerate" };

/** How a way divides the model: "Megatron TP 4 PP 2". */
export function division(way: WayView, t: Translate): string {
  const name = way.sharding === "none" ? t("planner.sharding.none") : SHORT_NAMES[way.sharding];
  const sizes: [string, number][] = [["TP", way.tensor], ["PP", way.pipeline], ["CP", way.context], ["EP", way.expert]];
  return [name, ...sizes.filter(([, size]) => size > 1).map(([label, size]) => `${label} ${size}`)].join(" ");
}

function trainedWords(way: WayView, t: Translate): string {
  if (way.quantize === "none") return "LoRA";
  return t(way.quantize === "int8" ? "planner.way.lora8" : "planner.way.lora4");
}

/** A way in a few words of the page's language. */
export function wayWords(way: WayView, t: Translate): string {
  const found = way.rank === null ? [] : [trainedWords(way, t)];
  found.push(division(way, t), t("planner.way.batch", { micro: way.micro_batch, times: way.accumulation }));
  if (way.recomputation !== "none") found.push(t(`planner.recomputation.${way.recomputation}.way`));
  if (way.offload !== "none") found.push(t(`planner.offload.${way.offload}.way`));
  if (way.num_generating > 0) found.push(t("planner.way.generating", { n: way.num_generating }));
  if (way.rollout_share !== null) found.push(t("planner.way.rollout", { tensor: way.rollout_tensor ?? 1, share: `${Math.round(100 * way.rollout_share)} %` }));
  return found.join(t("planner.way.comma"));
}

/** Names that the server gives to parts, phases and seconds, in the page's language. */
const NAMES: Record<string, Key> = {
  weights: "planner.part.weights",
  gradients: "planner.part.gradients",
  optimizer: "planner.part.optimizer",
  activations: "planner.part.activations",
  logits: "planner.part.logits",
  cache: "planner.part.cache",
  reference: "planner.part.reference",
  critic: "planner.part.critic",
  policy: "planner.part.policy",
  workspace: "planner.part.workspace",
  interpreter: "planner.part.interpreter",
  "rollout weights": "planner.part.rolloutWeights",
};
const PHASES: Record<string, Key> = {
  generate: "planner.phase.generate",
  score: "planner.phase.score",
  reference: "planner.phase.reference",
  "update critic": "planner.phase.updateCritic",
  update: "planner.phase.update",
};
const COMPARED: Record<string, Key> = {
  full: "planner.saving.full",
  "lora 8-bit": "planner.saving.lora8",
  "qlora 4-bit": "planner.saving.qlora",
};

const named = (names: Record<string, Key>, name: string, t: Translate) => (names[name] ? t(names[name]) : name);
export const partName = (name: string, t: Translate): string => named(NAMES, name, t);
export const phaseName = (name: string, t: Translate): string => named(PHASES, name, t);
export const comparedName = (name: string, t: Translate): string => (name === "lora" ? "LoRA" : named(COMPARED, name, t));

/** One of the settings that the server names in a refusal: "sharding: megatron", "without offload", "all weights". */
export function setting(words: string, t: Translate): string {
  const [, kind, bits] = /^(LoRA|DoRA) on (4|8)-bit weights$/.exec(words) ?? [];
  if (kind !== undefined) return t(bits === "4" ? "planner.way.lora4" : "planner.way.lora8").replace("LoRA", kind);
  if (words === "all weights") return t("planner.lora.0");
  const [, left] = /^without (\w+)$/.exec(words) ?? [];
  if (left !== undefined) return t("planner.say.without", { name: settingName(left, t) });
  const [name = "", value] = words.split(": ");
  return value === undefined ? words : t("planner.say.setting", { name: settingName(name, t), value: settingValue(name, value, t) });
}

const OF_A_PLAN: Record<string, Key> = { quantization: "planner.quantize", rollouts: "planner.rollouts", optimizer: "planner.optimizer", numbers: "planner.numbers" };
const settingName = (name: string, t: Translate): string => t(OF_A_PLAN[name] ?? (`planner.fixed.${name}` as Key));

function settingValue(name: string, value: string, t: Translate): string {
  if (name === "sharding" && value !== "none") return SHORT_NAMES[value as WayView["sharding"]];
  return ["sharding", "rollouts", "offload", "recomputation"].includes(name) ? t(`planner.${name}.${value}` as Key) : value;
}

/** "65.2 of 72.4 GiB (90.1 %)". */
export function ofUsable(taken: number, usable: number, t: Translate): string {
  return t("planner.ofUsable", { taken: gib(taken), usable: gib(usable), share: percent(taken / usable) });
}
