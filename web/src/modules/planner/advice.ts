/** What the server says would fit, as changes of the plan. Pure. */
import type { Plan } from "./plan";

/** The changes that a piece of advice asks for; null where it asks for none. */
export function wish(text: string, plan: Plan): Partial<Plan> | null {
  const wanted = /^would fit: (.+)$/.exec(text)?.[1];
  if (wanted === undefined) return null;
  const found: Partial<Plan> = {};
  if (wanted.includes("LoRA")) found.lora = true;
  if (wanted.includes("4-bit")) found.quantize = "nf4_double";
  const devices = Number(/(\d+) devices$/.exec(wanted)?.[1] ?? 0);
  if (devices > 0) Object.assign(found, { num_gpus: devices, batch: Math.ceil(plan.batch / devices) * devices });
  if (wanted.startsWith("Liger")) found.liger = true;
  const host = Number(/^hosts with (\d+) GiB/.exec(wanted)?.[1] ?? 0);
  if (host > 0) found.host_gib = host;
  const context = Number(/^a context of (\d+)$/.exec(wanted)?.[1] ?? 0);
  if (context > 0) Object.assign(found, { context, completion: plan.completion === null ? null : Math.min(plan.completion, context - 1) });
  return Object.keys(found).length > 0 ? found : null;
}
