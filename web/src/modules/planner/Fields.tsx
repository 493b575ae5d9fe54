import { InputNumber, Select, Switch } from "antd";
import type { ReactNode } from "react";
import type { Key, Translate } from "../../app/i18n";
import { useT } from "../../app/i18n";
import { choiceText } from "./choices";
import { DEFAULT, TRAINED, trainedName, trainedOf, type Change, type Fixed, type Plan } from "./plan";

type Named<T, Kind> = { [Name in keyof T]: T[Name] extends Kind ? Name : never }[keyof T] & string;
type NumberName = Named<Plan, number | null>;
type FlagName = Named<Plan, boolean>;
type ChoiceName = "algorithm" | "quantize" | "optimizer" | "numbers" | "rollouts";
type FixedNumber = Named<Fixed, number | null>;
type FixedChoice = "sharding" | "recomputation" | "offload";

interface Shared {
  plan: Plan;
  change: Change;
}

/** A name and its control on one line; what differs from the default is marked. */
export function Row({ label, hint, isChanged = false, isWide = false, children }: { label: string; hint?: string; isChanged?: boolean; isWide?: boolean; children: ReactNode }) {
  return (
    <div className="plan-row" data-changed={isChanged} data-wide={isWide}>
      <span className="plan-name" title={hint ?? label}>{label}</span>
      <div className="plan-value">{children}</div>
    </div>
  );
}

interface NumberProps extends Shared {
  name: NumberName;
  min: number;
  max?: number;
  step?: number;
  isWhole?: boolean;
  unit?: string;
  placeholder?: string;
  isDisabled?: boolean;
  /** Changes that go with a new value. */
  also?: Partial<Plan>;
}

export function NumberRow({ plan, change, name, min, max, step, isWhole = true, unit, placeholder, isDisabled, also }: NumberProps) {
  const t = useT();
  const label = t(`planner.${name}` as Key);
  return (
    <Row label={label} hint={hintOf(name, t)} isChanged={plan[name] !== DEFAULT[name]}>
      <InputNumber
        size="small"
        aria-label={label}
        data-testid={`plan-${name}`}
        className="plan-number"
        min={min}
        max={max}
        step={step}
        precision={isWhole ? 0 : undefined}
        value={plan[name]}
        suffix={unit}
        placeholder={placeholder}
        disabled={isDisabled}
        onChange={(value) => {
          if (value !== null || DEFAULT[name] === null) change({ ...(value === null ? {} : also), [name]: value });
        }}
      />
    </Row>
  );
}

export function FlagRow({ plan, change, name }: Shared & { name: FlagName }) {
  const t = useT();
  const label = t(`planner.${name}` as Key);
  return (
    <Row label={label} hint={hintOf(name, t)} isChanged={plan[name] !== DEFAULT[name]}>
      <Switch size="small" aria-label={label} data-testid={`plan-${name}`} checked={plan[name]} onChange={(value) => change({ [name]: value })} />
    </Row>
  );
}

/** All weights, update matrices, or what fits. */
export function TrainedRow({ plan, change }: Shared) {
  const t = useT();
  const label = t("planner.lora");
  return (
    <Row label={label} hint={t("planner.lora.why")} isChanged={plan.lora !== DEFAULT.lora}>
      <Select
        size="small"
        aria-label={label}
        data-testid="plan-lora"
        className="plan-select"
        popupMatchSelectWidth={false}
        value={trainedName(plan.lora)}
        onChange={(name) => change({ lora: trainedOf(name) })}
        options={TRAINED.map((value) => ({ value, label: choiceText("lora", value, t) }))}
      />
    </Row>
  );
}

export function ChoiceRow({ plan, change, name, choices, isDisabled }: Shared & { name: ChoiceName; choices: readonly string[]; isDisabled?: boolean }) {
  const t = useT();
  const label = t(`planner.${name}` as Key);
  return (
    <Row label={label} hint={hintOf(name, t)} isChanged={plan[name] !== DEFAULT[name]}>
      <Select
        size="small"
        aria-label={label}
        data-testid={`plan-${name}`}
        className="plan-select"
        popupMatchSelectWidth={false}
        value={plan[name]}
        disabled={isDisabled}
        onChange={(value) => change({ [name]: value })}
        options={choices.map((value) => ({ value, label: choiceText(name, value, t) }))}
      />
    </Row>
  );
}

/** What is not searched; empty is searched. */
export function FixedNumberRow({ plan, change, name, max, step = 1, isWhole = true }: Shared & { name: FixedNumber; max: number; step?: number; isWhole?: boolean }) {
  const t = useT();
  const label = t(`planner.fixed.${name}`);
  return (
    <Row label={label} isChanged={plan.fixed[name] !== null}>
      <InputNumber
        size="small"
        aria-label={label}
        data-testid={`plan-fixed-${name}`}
        className="plan-number"
        min={isWhole ? 1 : 0.05}
        max={max}
        step={step}
        precision={isWhole ? 0 : 2}
        value={plan.fixed[name]}
        placeholder={t("planner.search")}
        onChange={(value) => change({ fixed: { ...plan.fixed, [name]: value } })}
      />
    </Row>
  );
}

export function FixedChoiceRow({ plan, change, name, choices }: Shared & { name: FixedChoice; choices: readonly string[] }) {
  const t = useT();
  const label = t(`planner.fixed.${name}`);
  return (
    <Row label={label} isChanged={plan.fixed[name] !== null}>
      <Select
        size="small"
        aria-label={label}
        data-testid={`plan-fixed-${name}`}
        className="plan-select"
        popupMatchSelectWidth={false}
        allowClear
        placeholder={t("planner.search")}
        value={plan.fixed[name]}
        onChange={(value) => change({ fixed: { ...plan.fixed, [name]: value ?? null } })}
        options={choices.map((value) => ({ value, label: choiceText(name, value, t) }))}
      />
    </Row>
  );
}

const HINTS: Record<string, Key> = {
  num_gpus: "planner.num_gpus.why",
  batch: "planner.batch.why",
  completion: "planner.completion.why",
  margin: "planner.margin.why",
  tokens: "planner.tokens.why",
  hourly: "planner.hourly.why",
  calibrated: "planner.calibrated.why",
  flash: "planner.flash.why",
  liger: "planner.liger.why",
  numbers: "planner.numbers.why",
  rollouts: "planner.rollouts.why",
};

export function hintOf(name: string, t: Translate): string | undefined {
  const key = HINTS[name];
  return key && t(key);
}
