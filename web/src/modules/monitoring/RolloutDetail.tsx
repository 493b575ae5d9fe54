import { Button, Skeleton, Tag } from "antd";
import { useState } from "react";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import type { Change } from "../../app/useView";
import { ErrorCard } from "../../ui/ErrorCard";
import { PromptOverTime } from "./PromptOverTime";
import { TokenText } from "./TokenText";
import { useRollout } from "./useRollouts";
import type { Rollout, RolloutView } from "./rolloutView";

const LONG_PROMPT = 600;

interface Props {
  jobId: number;
  attempt: number;
  step: number;
  index: number;
  view: RolloutView;
  newest: number;
  change: Change;
}

/** One completion: what it was given, what it wrote, what it got for it. */
export function RolloutDetail({ jobId, attempt, step, index, view, newest, change }: Props) {
  const t = useT();
  const found = useRollout(jobId, attempt, step, index);
  if (found.error) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (!found.data) return <Skeleton active />;
  const one = found.data;
  return (
    <div className="rollout-detail" data-testid="rollout-detail" data-step={one.step} data-index={one.index} style={found.isPlaceholderData ? { opacity: 0.6 } : undefined}>
      <div className="facts quiet-labels">
        <b>{t("rollouts.stepIs", { step: whole(one.step) })} · #{one.index}</b>
        {one.model && <Tag>{one.model}</Tag>}
        <span><i>{t("rollouts.reward")}</i> <b>{number(one.reward)}</b></span>
        <span><i>{t("samples.advantage")}</i> {number(one.advantage)}</span>
        <span><i>{t("samples.length")}</i> {number(one.length)}</span>
        {one.is_truncated && <Tag variant="outlined" className="tone" data-tone="warning">{t("samples.truncated")}</Tag>}
        {one.answer !== null && <span><i>{t("samples.target")}</i> <span className="mono">{one.answer}</span></span>}
      </div>
      <Parts one={one} />
      <Prompt key={one.prompt_key} text={one.prompt} />
      <TokenText key={`${one.step} ${one.index}`} rollout={one} colouring={view.colouring} setColouring={(value) => change({ colour: value === "entropy" ? null : value })} />
      <Button size="small" onClick={() => change({ time: view.isOverTime ? null : "1" })} aria-expanded={view.isOverTime} data-testid="rollout-time">
        {t(view.isOverTime ? "rollouts.hideTime" : "rollouts.overTime")}
      </Button>
      {view.isOverTime && <PromptOverTime jobId={jobId} promptKey={one.prompt_key} step={one.step} newest={newest} change={change} />}
    </div>
  );
}

/** Score times weight for each part, and their sum. */
function Parts({ one }: { one: Rollout }) {
  const t = useT();
  const names = Object.keys(one.rewards);
  if (names.length === 0) return null;
  return (
    <table className="rollout-parts" data-testid="rollout-parts">
      <tbody>
        {names.map((name) => {
          const [score, weight] = [one.rewards[name] ?? null, one.weights?.[name]];
          return (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{score === null ? t("rollouts.failed") : number(score)}</td>
              <td className="quiet">{weight !== undefined && `× ${number(weight)}`}</td>
              <td>{weight !== undefined && score !== null && `= ${number(score * weight)}`}</td>
            </tr>
          );
        })}
        <tr className="rollout-sum">
          <th scope="row">{t("rollouts.sum")}</th>
          <td colSpan={2} />
          <td>{one.weights ? "= " : ""}{number(one.reward)}</td>
        </tr>
      </tbody>
    </table>
  );
}

function Prompt({ text }: { text: string }) {
  const t = useT();
  const [isOpen, setOpen] = useState(false);
  const isLong = text.length > LONG_PROMPT;
  return (
    <div>
      <div className="chart-title"><b>{t("samples.prompt")}</b></div>
      <div className="text mono quiet">{isLong && !isOpen ? `${text.slice(0, LONG_PROMPT)} …` : text}</div>
      {isLong && <Button type="link" size="small" onClick={() => setOpen(!isOpen)}>{t(isOpen ? "rollouts.less" : "rollouts.all")}</Button>}
    </div>
  );
}
