/** Sentences of the server in the page's language. One that is not known stays as it is. Pure. */
import { ApiError } from "../../api/client";
import type { Key, Translate } from "../../app/i18n";
import { phaseName, setting } from "./words";

/** The named groups of a pattern are the values of its text. */
const PHRASES: [RegExp, Key][] = [
  [/^needs (?<taken>[\d.]+) GiB of (?<usable>[\d.]+) to (?<phase>.+)$/, "planner.say.needs"],
  [/^needs (?<taken>[\d,]+) GiB of host memory; (?<assumed>[\d,]+) are assumed \(host_gib\)$/, "planner.say.needsHost"],
  [/^needs (?<taken>[\d,]+) GiB of host memory; a host has (?<assumed>[\d,]+) \(host_gib\)$/, "planner.say.needsHostGiven"],
  [/^it does not fit: .* needs (?<taken>[\d,]+) GiB of host memory; a host has (?<assumed>[\d,]+) \(host_gib\)$/, "planner.say.notFitHostGiven"],
  [/^(?<device>.+) has no bfloat16: weights and states are float32, and float16 is computed in with a scaled loss$/, "planner.say.scaledLoss"],
  [/^(?<batch>[\d,]+) sequences a step are no multiple of the (?<n>[\d,]+) devices, .*; (?<less>[\d,]+) or (?<more>[\d,]+) would be$/, "planner.say.noMultiple"],
  [/^kto compares the rows of a pass: .*; (?<would>\d+) sequences a step would be right$/, "planner.say.ktoRows"],
  [/^the peak of (?<device>.+) is not known; plan for another$/, "planner.say.noPeak"],
  [/^it does not fit: .* needs (?<taken>[\d,]+) GiB of host memory; (?<assumed>[\d,]+) are assumed \(host_gib\)$/, "planner.say.notFitHost"],
  [/^trains update matrices alone, in (?<share>\d+%) of the time$/, "planner.say.trainsLess"],
  [/^training all weights does not fit; LoRA is planned$/, "planner.say.plannedLora"],
  [/^training all weights does not fit; LoRA on 4-bit weights is planned$/, "planner.say.plannedQlora"],
  [/^it does not fit, even with LoRA(?: on 4-bit weights)?: at least (?<taken>[\d.]+) GiB a device, of which (?<usable>[\d.]+) of (?<device>.+) can be used$/, "planner.say.notFitLora"],
  [/^dora is a kind of lora, which is off; .*$/, "planner.say.dora"],
  [/^(?<by>\d+%) faster, and runs with accelerate or DeepSpeed alone$/, "planner.say.fasterAlone"],
  [/^as fast, and runs with accelerate or DeepSpeed alone$/, "planner.say.alone"],
  [/^as fast \((?<by>[+-]\d+%)\), and harder to run$/, "planner.say.harder"],
  [/^as fast \((?<by>[+-]\d+%)\), and not better$/, "planner.say.notBetter"],
  [/^(?<by>\d+%) slower: computes longer$/, "planner.say.computes"],
  [/^(?<by>\d+%) slower: waits for messages$/, "planner.say.messages"],
  [/^(?<by>\d+%) slower: moves to host memory$/, "planner.say.moves"],
  [/^(?<by>\d+%) slower: generates slower$/, "planner.say.generatesSlower"],
  [/^(?<by>\d+%) slower: waits in the pipeline$/, "planner.say.bubbles"],
  [/^only (?<left>[\d.]+) GiB are left beside the margin of (?<margin>\d+%); try it before it is queued$/, "planner.say.close"],
  [/^(?<device>.+) has no bfloat16; float16 needs a scaled loss$/, "planner.say.noBfloat16"],
  [/^(?<share>\d+%) of a step is rollouts; an engine \(vLLM\) is faster than the trainer$/, "planner.say.rolloutsTrainer"],
  [/^(?<share>\d+%) of a step is rollouts$/, "planner.say.rollouts"],
  [/^(?<share>\d+%) of a step waits for messages between devices$/, "planner.say.waitsMessages"],
  [/^(?<share>\d+%) of a step waits in the pipeline; larger batches fill it$/, "planner.say.waitsPipeline"],
  [/^states wait in host memory: (?<taken>[\d,]+) GiB of a host, and (?<share>\d+%) of a step$/, "planner.say.hostMemoryOnly"],
  [/^(?<size>\d+) stages of a pipeline do not divide the model's (?<layers>\d+) layers; (?<would>[\d, ]+) would$/, "planner.say.stagesDivide"],
  [/^states wait in host memory: (?<taken>[\d,]+) GiB of a host, and (?<share>\d+%) of a step; more devices may be cheaper$/, "planner.say.hostMemory"],
  [/^device, engine and algorithm$/, "planner.say.basisAlgorithm"],
  [/^device and engine$/, "planner.say.basisEngine"],
  [/^device$/, "planner.say.basisDevice"],
  [/^task\.data\.train is (?<name>\S+): name a dataset or a file$/, "planner.say.fillData"],
  [/^task\.rewards is (?<name>\w+): name the rewards of the job$/, "planner.say.fillRewards"],
  [/^dataset_name is json: name the data \(and reward_funcs, where completions are generated\)$/, "planner.say.fillTrl"],
  [/^there is no plan to export: .*$/, "planner.say.noPlan"],
  [/^no way that fits can be exported as (?<to>\w+): .*$/, "planner.say.noExport"],
  [/^TRL's command line has no (?<algorithm>\w+); it has (?<known>.+)$/, "planner.say.noTrl"],
  [/^(?:a job file|TRL) has no optimizer (?<name>\w+); one of (?<known>.+)$/, "planner.say.noOptimizer"],
  [/^how fast (?<device>.+) talks to others is not known; 12 GB\/s is assumed$/, "planner.say.unknownLink"],
  [/^the cache holds (?<held>\d+) of the (?<each>\d+) sequences of a step that an engine generates$/, "planner.say.smallCache"],
  [/^a context of (?<context>[\d,]+) is beyond the (?<learned>[\d,]+) positions that the model has learned$/, "planner.say.positions"],
  [/^it does not fit: at least (?<taken>[\d.]+) GiB a device, of which (?<usable>[\d.]+) of (?<device>.+) can be used$/, "planner.say.notFit"],
  [/^would fit: LoRA on 4-bit weights and (?<n>\d+) devices$/, "planner.say.wouldQloraDevices"],
  [/^would fit: LoRA on 4-bit weights$/, "planner.say.wouldQlora"],
  [/^would fit: LoRA$/, "planner.say.wouldLora"],
  [/^would fit: (?<n>\d+) devices$/, "planner.say.wouldDevices"],
  [/^would fit: Liger's kernels$/, "planner.say.wouldLiger"],
  [/^would fit: hosts with (?<gib>\d+) GiB of memory$/, "planner.say.wouldHosts"],
  [/^weights and states are in bfloat16, where small updates get lost; numbers: mixed keeps 32 bits$/, "planner.say.narrow"],
  [/^bitsandbytes does not run on (?<device>.+); plan without quantization$/, "planner.say.noBitsandbytes"],
  [/^(?<device>.+) trains alone; plan for one$/, "planner.say.alone1"],
  [/^vLLM beside a trainer does not run on (?<device>.+); plan with rollouts: trainer$/, "planner.say.noVllm"],
  [/^encoder-decoders are counted, and not planned: .*$/, "planner.say.twoStacks"],
  [/^accelerate\.yaml is of the first host: .*$/, "planner.say.firstHost"],
  [/^the plan adds gradients up after each micro batch: .*$/, "planner.say.syncEach"],
  [/^model_type (?<name>\S+) is not known; .*$/, "planner.say.assumed"],
  [/^would fit: a context of (?<context>\d+)$/, "planner.say.wouldContext"],
  [/^quantized weights are not trained; add LoRA, or remove the quantization$/, "planner.say.quantized"],
  [/^rollouts apart need a device that generates and one that trains; plan for 2 or more$/, "planner.say.apart"],
  [/^completion \((?<completion>\d+)\) must be less than context \((?<context>\d+)\)$/, "planner.say.completion"],
  [/^tensor parallelism of (?<size>\d+) does not divide the model's (?<heads>\d+) heads; (?<would>[\d, ]+) would$/, "planner.say.heads"],
  [/^(?<size>\d+) stages of a pipeline are more than the model's (?<layers>\d+) layers$/, "planner.say.stages"],
  [/^the model has no experts to divide over (?<size>\d+) devices; expert must be 1$/, "planner.say.noExperts"],
  [/^tensor x pipeline x context is (?<group>\d+), which does not divide the (?<n>\d+) devices$/, "planner.say.group"],
  [/^(?<batch>\d+) sequences a step must be a multiple of the (?<n>\d+) devices; (?<would>\d+) would be right$/, "planner.say.multiple"],
  [/^a micro batch of (?<micro>\d+) does not divide the (?<batch>\d+) sequences of a step over (?<n>\d+) devices; (?<would>\d+) sequences would be right$/, "planner.say.microBatch"],
  [/^(?<algorithm>\w+) on (?<n>\d+) x (?<device>.+) cannot be divided as asked \((?<asked>.*)\); give fewer of these$/, "planner.say.notDivided"],
  [/^(?<algorithm>\w+) on (?<n>\d+) x (?<device>.+) cannot be divided as asked \((?<asked>.*)\); (?<changes>.+) would be right$/, "planner.say.notDividedBut"],
  [/^no (?:device|share of [\d.]+) holds the rollout engine's weights and one sequence.*; more devices, or a smaller model$/, "planner.say.noRollout"],
  [/^'(?<name>.+)' is no model of the catalog; did you mean (?<near>.+)\?.*$/s, "planner.say.nearModel"],
  [/^'(?<name>.+)' is no model of the catalog.*$/s, "planner.say.noModel"],
  [/^'(?<name>.+)' may be (?<near>.+); write one of these$/, "planner.say.manyModels"],
  [/^accelerator '(?<name>.+?)' is not known; did you mean (?<near>.+?)\?.*$/s, "planner.say.nearDevice"],
  [/^accelerator '(?<name>.+?)' is not known.*$/s, "planner.say.noDevice"],
  [/^(?<field>[\w.]+): Input should be greater than or equal to (?<end>[\d.]+)$/, "planner.say.atLeast"],
  [/^(?<field>[\w.]+): Input should be less than or equal to (?<end>[\d.]+)$/, "planner.say.atMost"],
];

/** Groups that hold words of their own. */
const NAMED: Record<string, (words: string, t: Translate) => string> = {
  phase: phaseName,
  asked: (words, t) => words.split(", ").map((word) => setting(word, t)).join(t("planner.say.list")),
  changes: (words, t) => words.split(", or ").map((way) => way.split(" and ").map((word) => setting(word, t)).join(" + ")).join(t("planner.say.or")),
};

export function said(text: string, t: Translate): string {
  for (const [pattern, key] of PHRASES) {
    const found = pattern.exec(text);
    if (!found) continue;
    const values = { ...found.groups };
    for (const [name, translated] of Object.entries(NAMED)) if (values[name] !== undefined) values[name] = translated(values[name], t);
    return t(key, values);
  }
  return text;
}

/** What an error says, on one line. */
export function messageOf(error: Error): string {
  const problems = error instanceof ApiError ? error.problems : [];
  const lines = problems.map(({ path, message }) => [path.replace(/^body\.?/, ""), message.replace(/^Value error, /, "")].filter(Boolean).join(": "));
  return lines.length > 0 ? lines.join("; ") : error.message;
}
