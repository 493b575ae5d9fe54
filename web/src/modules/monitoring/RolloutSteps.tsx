import { Segmented, Space } from "antd";
import { useState, type KeyboardEvent, type MouseEvent } from "react";
import { number, percent, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import type { Change } from "../../app/useView";
import { columnOf, LANES, pathOf, type History, type Lane } from "./rolloutView";

interface Props {
  history: History;
  /** The step that is shown. */
  step: number;
  lane: Lane;
  pick: (step: number) => void;
  change: Change;
}

const COLOURS = { reward: "#0072B2", tokens: "#E69F00", truncated: "#D55E00", diversity: "#009E73" };

/** Reward and one more figure over the recorded steps. A click, or an arrow key, chooses a step. */
export function RolloutSteps({ history, step, lane, pick, change }: Props) {
  const t = useT();
  const [pointed, setPointed] = useState<number | null>(null);
  const num = history.first_steps.length;
  const chosen = columnOf(history, step);
  const at = pointed ?? chosen;
  const columnAt = (event: MouseEvent) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    return Math.min(num - 1, Math.max(0, Math.floor((num * (event.clientX - left)) / width)));
  };
  const choose = (column: number) => {
    const last = history.last_steps[column];
    if (last !== undefined) pick(last);
  };
  const press = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(Math.min(num - 1, Math.max(0, chosen + by)));
  };
  const [first, last] = [history.first_steps[at] ?? 0, history.last_steps[at] ?? 0];
  return (
    <section className="rollout-steps">
      <div className="chart-title">
        <Space wrap>
          <b>{first === last ? t("rollouts.stepIs", { step: whole(first) }) : t("rollouts.stepsAre", { first: whole(first), last: whole(last) })}</b>
          <Figure name="reward" text={`${t("rollouts.reward")} ${number(history.reward[at])}`} />
          <Figure name={lane} text={`${t(`rollouts.lane.${lane}`)} ${figure(lane, history[lane][at])}`} />
        </Space>
        <Segmented size="small" aria-label={t("rollouts.lane")} value={lane} onChange={(value) => change({ lane: value })} options={LANES.map((value) => ({ value, label: t(`rollouts.lane.${value}`) }))} />
      </div>
      <div
        className="rollout-lanes"
        role="slider"
        tabIndex={0}
        aria-label={t("rollouts.steps")}
        aria-valuemin={history.first_step ?? 0}
        aria-valuemax={history.last_step ?? 0}
        aria-valuenow={step}
        data-testid="rollout-steps"
        data-columns={num}
        onKeyDown={press}
        onMouseMove={(event) => setPointed(columnAt(event))}
        onMouseLeave={() => setPointed(null)}
        onClick={(event) => choose(columnAt(event))}
      >
        {(["reward", lane] as const).map((name) => <Line key={name} values={history[name]} colour={COLOURS[name]} />)}
        {[chosen, pointed].map((column, order) => column !== null && column >= 0 && <span key={order} className={order ? "at pointed" : "at"} style={{ left: `${(100 * (column + 0.5)) / num}%` }} />)}
      </div>
      <div className="rollout-ends quiet">
        <span>{whole(history.first_step ?? 0)}</span>
        <span>{t("rollouts.counted", { steps: whole(history.num_steps), rollouts: whole(history.num_rollouts) })}</span>
        <span>{whole(history.last_step ?? 0)}</span>
      </div>
    </section>
  );
}

function Figure({ name, text }: { name: keyof typeof COLOURS; text: string }) {
  return (
    <span>
      <i className="rollout-key" style={{ background: COLOURS[name] }} /> {text}
    </span>
  );
}

function Line({ values, colour }: { values: (number | null)[]; colour: string }) {
  const drawn = pathOf(values);
  return (
    <div className="rollout-lane" aria-hidden>
      <span className="quiet">{number(drawn?.high, 3)}</span>
      <span className="quiet">{number(drawn?.low, 3)}</span>
      <svg viewBox="0 -0.06 1 1.12" preserveAspectRatio="none">
        {drawn && <path d={drawn.path} fill="none" stroke={colour} strokeWidth={1.5} strokeLinejoin="round" vectorEffect="non-scaling-stroke" />}
      </svg>
    </div>
  );
}

function figure(lane: Lane, value: number | null | undefined): string {
  return lane === "truncated" && value !== null && value !== undefined ? percent(value) : number(value);
}
