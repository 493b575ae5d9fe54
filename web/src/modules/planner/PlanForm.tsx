import { Button, InputNumber, Slider } from "antd";
import { useState, type ReactNode } from "react";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { ChoiceRow, FixedChoiceRow, FixedNumberRow, FlagRow, hintOf, NumberRow, Row, TrainedRow } from "./Fields";
import { ModelField } from "./ModelField";
import { NameSelect } from "./NameSelect";
import { ALGORITHMS, CONTEXTS, DEFAULT, ROLLOUTS, generates, encode, hasEngine, nearestStop, NUMBERS, numFixed, OFFLOADS, OPTIMIZERS, POWERS, QUANTIZATIONS, RECOMPUTATIONS, refers, searchAll, SHARDINGS, type Change, type Plan } from "./plan";
import { useChoices } from "./usePlanner";

interface Props {
  plan: Plan;
  change: Change;
  /** Of the model that was planned last. */
  parameters: number | undefined;
}

/** What is trained, and on what. */
export function PlanForm(props: Props) {
  const t = useT();
  const { plan, change } = props;
  const choices = useChoices();
  return (
    <form className="plan-form" aria-label={t("planner.inputs")} onSubmit={(event) => event.preventDefault()}>
      <ModelField {...props} />
      <Row label={t("planner.gpu")} isChanged={plan.gpu !== DEFAULT.gpu} isWide>
        <NameSelect label={t("planner.gpu")} testId="plan-gpu" value={plan.gpu} names={choices.data?.accelerators ?? []} isLoading={choices.isLoading} choose={(gpu) => change({ gpu })} />
      </Row>
      <SliderRow {...props} scale={SCALES.num_gpus} />
      <NumberRow {...props} name="gpus_per_host" min={1} max={1024} />
      <ChoiceRow {...props} name="algorithm" choices={ALGORITHMS} />
      <SliderRow {...props} scale={SCALES.context} />
      {generates(plan) && <NumberRow {...props} name="completion" min={1} placeholder={t("planner.half")} />}
      <SliderRow {...props} scale={SCALES.batch} />
      <TrainedRow {...props} />
      {plan.lora !== false && <NumberRow {...props} name="rank" min={1} max={4096} />}
      {plan.lora && <FlagRow {...props} name="dora" />}
      {plan.lora && <ChoiceRow {...props} name="quantize" choices={QUANTIZATIONS} />}
      <ChoiceRow {...props} name="numbers" choices={NUMBERS} />
      <ChoiceRow {...props} name="optimizer" choices={OPTIMIZERS} />
      {generates(plan) && <ChoiceRow {...props} name="rollouts" choices={ROLLOUTS} />}
      <NumberRow {...props} name="steps" min={1} placeholder={t("planner.notGiven")} also={{ tokens: null }} />
      <NumberRow {...props} name="tokens" min={0.001} isWhole={false} unit="M" placeholder={t("planner.notGiven")} also={{ steps: null }} />
      <NumberRow {...props} name="hourly" min={0} step={0.1} isWhole={false} placeholder={t("planner.notGiven")} />
      <FlagRow {...props} name="calibrated" />
      <Advanced {...props} />
    </form>
  );
}

interface Scale {
  name: "context" | "num_gpus" | "batch";
  /** Values that the slider stops at, rising. */
  stops: readonly number[];
  min: number;
  max: number;
  marks: Record<number, string>;
}

const SCALES: Record<Scale["name"], Scale> = {
  context: { name: "context", stops: CONTEXTS, min: 2, max: 10_000_000, marks: { 0: "512", 4: "2k", 8: "8k", 12: "32k", [CONTEXTS.length - 1]: "128k" } },
  num_gpus: { name: "num_gpus", stops: POWERS.slice(0, 11), min: 1, max: 16384, marks: { 0: "1", 3: "8", 6: "64", 10: "1k" } },
  batch: { name: "batch", stops: POWERS, min: 1, max: 1_000_000, marks: { 0: "1", 4: "16", 8: "256", 12: "4k" } },
};

/** A number with a slider on a logarithmic scale. */
function SliderRow({ plan, change, scale }: Props & { scale: Scale }) {
  const t = useT();
  const { name, stops, min, max, marks } = scale;
  const label = t(`planner.${name}`);
  return (
    <Row label={label} hint={hintOf(name, t)} isChanged={plan[name] !== DEFAULT[name]}>
      <InputNumber size="small" aria-label={label} data-testid={`plan-${name}`} className="plan-number" min={min} max={max} precision={0} value={plan[name]} onChange={(value) => value !== null && change({ [name]: value })} />
      <Slider
        className="plan-slider"
        min={0}
        max={stops.length - 1}
        value={nearestStop(plan[name], stops)}
        onChange={(at) => change({ [name]: stops[at] ?? plan[name] })}
        tooltip={{ formatter: (at) => whole(stops[at ?? 0] ?? 0) }}
        ariaLabelForHandle={t("planner.slider", { name: label })}
        ariaValueTextFormatterForHandle={(at) => whole(stops[at] ?? 0)}
        marks={marks}
      />
    </Row>
  );
}

const ADVANCED = ["margin", "host_gib", "flash", "liger", "kl", "critic"] as const;

function Advanced(props: Props) {
  const t = useT();
  const { plan, change } = props;
  const numChanged = ADVANCED.filter((name) => plan[name] !== DEFAULT[name]).length + numFixed(plan.fixed);
  return (
    <>
      <Fold label={t("planner.advanced")} numChanged={numChanged}>
        <Row label={t("planner.margin")} hint={t("planner.margin.why")} isChanged={plan.margin !== DEFAULT.margin}>
          <InputNumber size="small" aria-label={t("planner.margin")} data-testid="plan-margin" className="plan-number" min={0} max={89} step={1} suffix="%" value={Number((100 * plan.margin).toPrecision(4))} onChange={(value) => value !== null && change({ margin: Number((value / 100).toPrecision(4)) })} />
        </Row>
        <NumberRow {...props} name="host_gib" min={1} max={100_000} unit="GiB" placeholder={t("planner.host_gib.usual")} />
        <FlagRow {...props} name="flash" />
        <FlagRow {...props} name="liger" />
        {refers(plan) && <FlagRow {...props} name="kl" />}
        {plan.algorithm === "ppo" && <FlagRow {...props} name="critic" />}
        <div className="plan-group">
          <span>{t("planner.fixed")}</span>
          {numFixed(plan.fixed) > 0 && <Button size="small" type="link" onClick={() => change({ fixed: searchAll() })}>{t("planner.searchAll")}</Button>}
        </div>
        <FixedChoiceRow {...props} name="sharding" choices={SHARDINGS} />
        <FixedNumberRow {...props} name="tensor" max={64} />
        <FixedNumberRow {...props} name="pipeline" max={64} />
        <FixedNumberRow {...props} name="context" max={64} />
        <FixedNumberRow {...props} name="expert" max={512} />
        <FixedNumberRow {...props} name="micro_batch" max={4096} />
        <FixedChoiceRow {...props} name="recomputation" choices={RECOMPUTATIONS} />
        <FixedChoiceRow {...props} name="offload" choices={generates(plan) ? OFFLOADS : OFFLOADS.filter((name) => name !== "between")} />
        {hasEngine(plan) && <FixedNumberRow {...props} name="rollout_tensor" max={64} />}
        {hasEngine(plan) && <FixedNumberRow {...props} name="rollout_share" max={0.95} step={0.05} isWhole={false} />}
      </Fold>
      {encode(plan) !== "" && <Button size="small" type="text" data-testid="plan-reset" onClick={() => change(DEFAULT)}>{t("planner.reset")}</Button>}
    </>
  );
}

function Fold({ label, numChanged, children }: { label: string; numChanged: number; children: ReactNode }) {
  const t = useT();
  const [isOpen, setOpen] = useState(numChanged > 0);
  return (
    <div>
      <button type="button" className="schema-more" aria-expanded={isOpen} data-testid="plan-advanced" onClick={() => setOpen(!isOpen)}>
        <span aria-hidden>{isOpen ? "▾" : "▸"}</span> {label}
        {numChanged > 0 && <span className="schema-count">{t("planner.changed", { n: number(numChanged) })}</span>}
      </button>
      {isOpen && <div className="plan-advanced">{children}</div>}
    </div>
  );
}
