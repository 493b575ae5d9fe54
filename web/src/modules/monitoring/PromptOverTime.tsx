import { Skeleton } from "antd";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import type { Change } from "../../app/useView";
import { ErrorCard } from "../../ui/ErrorCard";
import { usePromptOverTime } from "./useRollouts";

interface Props {
  jobId: number;
  promptKey: string;
  step: number;
  newest: number;
  change: Change;
}

/** What was written to one prompt as the run went on, the completion with the best reward of each step. */
export function PromptOverTime({ jobId, promptKey, step, newest, change }: Props) {
  const t = useT();
  const found = usePromptOverTime(jobId, promptKey, newest);
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  if (!found.data) return <Skeleton active />;
  const { steps, num_steps: num } = found.data;
  return (
    <section data-testid="rollout-history" data-steps={steps.length}>
      <p className="quiet">{num > steps.length ? t("rollouts.timeSome", { shown: whole(steps.length), n: whole(num) }) : t("rollouts.timeAll", { n: whole(num) })}</p>
      <table className="rollout-over">
        <thead>
          <tr>
            <th>{t("samples.step")}</th>
            <th>{t("rollouts.reward")}</th>
            <th>{t("rollouts.lane.tokens")}</th>
            <th>{t("rollouts.lane.diversity")}</th>
            <th>{t("rollouts.best")}</th>
          </tr>
        </thead>
        <tbody>
          {[...steps].reverse().map((one) => {
            const best = [...one.rollouts].sort((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity))[0];
            return (
              <tr key={`${one.attempt} ${one.step}`} data-chosen={one.step === step}>
                <td><button className="rollout-link" onClick={() => change({ step: String(one.step), at: String(best?.index ?? 0) })}>{whole(one.step)}</button></td>
                <td>{number(one.reward, 3)}</td>
                <td>{number(one.tokens, 3)}</td>
                <td>{number(one.diversity, 2)}</td>
                <td className="rollout-preview mono">{best?.preview}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
