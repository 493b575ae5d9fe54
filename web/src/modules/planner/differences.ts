/** What differs between two plans and between their answers. Pure. */
import { number, percent } from "../../app/format";
import type { Key, Translate } from "../../app/i18n";
import { choiceText } from "./choices";
import { asRequest, shownWay, trainedName, type Fixed, type Plan, type PlanView } from "./plan";
import { ENGINES, gibText, price, seconds, wayWords } from "./words";

export interface Difference {
  key: string;
  label: string;
  a: string;
  b: string;
  /** Of the second to the first, where both are numbers. */
  ratio: number | null;
}

const INPUTS: [Exclude<keyof Plan, "fixed" | "config">, Key][] = [
  ["model", "planner.model"],
  ["params", "planner.params"],
  ["gpu", "planner.gpu"],
  ["num_gpus", "planner.num_gpus"],
  ["gpus_per_host", "planner.gpus_per_host"],
  ["algorithm", "planner.algorithm"],
  ["context", "planner.context"],
  ["completion", "planner.completion"],
  ["batch", "planner.batch"],
  ["lora", "planner.lora"],
  ["rank", "planner.rank"],
  ["quantize", "planner.quantize"],
  ["optimizer", "planner.optimizer"],
  ["numbers", "planner.numbers"],
  ["flash", "planner.flash"],
  ["liger", "planner.liger"],
  ["kl", "planner.kl"],
  ["critic", "planner.critic"],
  ["rollouts", "planner.rollouts"],
  ["margin", "planner.margin"],
  ["steps", "planner.steps"],
  ["tokens", "planner.tokens"],
  ["hourly", "planner.hourly"],
  ["calibrated", "planner.calibrated"],
];

const FIXED: (keyof Fixed)[] = ["sharding", "tensor", "pipeline", "context", "expert", "micro_batch", "recomputation", "offload", "rollout_tensor", "rollout_share"];

const ratioOf = (a: unknown, b: unknown) => (typeof a === "number" && typeof b === "number" && a > 0 ? b / a : null);

/** The inputs that are not the same. */
export function inputDifferences(a: Plan, b: Plan, t: Translate): Difference[] {
  const [first, second] = [asRequest(a) as Plan, asRequest(b) as Plan];
  const row = (key: string, label: string, x: unknown, y: unknown): Difference[] =>
    x === y ? [] : [{ key, label, a: inputText(key, x, t), b: inputText(key, y, t), ratio: ratioOf(x, y) }];
  const config = JSON.stringify(first.config) === JSON.stringify(second.config) ? [] : row("config", "config.json", configText(first), configText(second));
  return [
    ...INPUTS.flatMap(([name, key]) => row(name, t(key), first[name], second[name])),
    ...config,
    ...FIXED.flatMap((name) => row(`fixed.${name}`, t(`planner.fixed.${name}`), first.fixed[name], second.fixed[name])),
  ];
}

function configText(plan: Plan): string | null {
  if (plan.config === null) return null;
  const sizes = [plan.config.hidden_size, plan.config.num_hidden_layers].filter((size) => typeof size === "number");
  return ["config.json", sizes.join(" \u00d7 ")].filter(Boolean).join(": ");
}

const NAMED = /^(?:fixed\.)?(algorithm|quantize|optimizer|numbers|rollouts|sharding|recomputation|offload)$/;

function inputText(key: string, value: unknown, t: Translate): string {
  if (key === "lora") return choiceText(key, trainedName(value), t);
  if (value === null || value === "") return "\u2013";
  if (typeof value === "boolean") return t(value ? "planner.on" : "planner.off");
  if (typeof value === "number") return number(value);
  const name = NAMED.exec(key)?.[1];
  return name === undefined ? String(value) : choiceText(name, String(value), t);
}

/** The numbers of two answers, with their ratio. */
export function answerDifferences(a: PlanView, b: PlanView, t: Translate): Difference[] {
  const [x, y] = [shownWay(a), shownWay(b)];
  const row = (key: string, label: Key, first: number | null | undefined, second: number | null | undefined, text: (value: number) => string): Difference[] => {
    if (typeof first !== "number" && typeof second !== "number") return [];
    const shown = (value: number | null | undefined) => (typeof value === "number" ? text(value) : "\u2013");
    return [{ key, label: t(label), a: shown(first), b: shown(second), ratio: ratioOf(first, second) }];
  };
  const plain = (key: string, label: Key, first: string, second: string): Difference => ({ key, label: t(label), a: first, b: second, ratio: null });
  const fits = (answer: PlanView) => t(answer.fits ? "planner.fits" : "planner.fitsNot");
  return [
    plain("fits", "planner.col.fits", fits(a), fits(b)),
    plain("way", "planner.col.way", x ? `${ENGINES[x.engine]}${t("planner.colon")}${wayWords(x, t)}` : "\u2013", y ? `${ENGINES[y.engine]}${t("planner.colon")}${wayWords(y, t)}` : "\u2013"),
    ...row("peak", "planner.peak", x?.peak_bytes, y?.peak_bytes, gibText),
    ...row("share", "planner.ofAll", x?.share_of_device, y?.share_of_device, percent),
    ...row("speed", "planner.speed", x?.tokens_per_second, y?.tokens_per_second, (value) => number(value)),
    ...row("step", "planner.stepTime", x?.seconds_per_step, y?.seconds_per_step, seconds),
    ...row("mfu", "planner.mfu", x?.mfu, y?.mfu, percent),
    ...row("longest", "planner.longest", a.longest_context, b.longest_context, (value) => number(value, 7)),
    ...row("host", "planner.host", x?.host_bytes, y?.host_bytes, gibText),
    ...row("disk", "planner.disk", a.disk_bytes, b.disk_bytes, gibText),
    ...row("hours", "planner.hours", a.cost?.hours, b.cost?.hours, (value) => `${number(value)} h`),
    ...row("deviceHours", "planner.deviceHours", a.cost?.device_hours, b.cost?.device_hours, (value) => number(value)),
    ...row("price", "planner.price", a.cost?.price, b.cost?.price, price),
  ];
}

/** "×1.53"; nothing where there is none. */
export function ratioText(ratio: number | null): string {
  return ratio === null ? "" : `\u00d7${ratio.toPrecision(3)}`;
}
