/** Names of what can be chosen. Pure. */
import type { Key, Translate } from "../../app/i18n";

/** Names that programs have are not translated. */
const OWN_NAMES: Record<string, string> = {
  "algorithm.dpo": "DPO",
  "algorithm.kto": "KTO",
  "algorithm.orpo": "ORPO",
  "algorithm.ppo": "PPO",
  "algorithm.grpo": "GRPO",
  "algorithm.rloo": "RLOO",
  "lora.1": "LoRA",
  "quantize.nf4": "4-bit NF4",
  "optimizer.adamw": "AdamW",
  "optimizer.adafactor": "Adafactor",
  "optimizer.sgd": "SGD",
  "optimizer.lion": "Lion",
  "optimizer.muon": "Muon",
  "numbers.bf16": "bf16",
  "numbers.fp32": "fp32",
  "sharding.zero1": "ZeRO 1",
  "sharding.zero2": "ZeRO 2",
  "sharding.zero3": "ZeRO 3",
  "sharding.fsdp": "FSDP",
  "sharding.megatron": "Megatron",
};

/** What a choice of a field is called on the page. */
export function choiceText(name: string, value: string, t: Translate): string {
  return OWN_NAMES[`${name}.${value}`] ?? t(`planner.${name}.${value}` as Key);
}
