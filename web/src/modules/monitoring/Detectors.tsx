import { CheckCircleOutlined, MinusCircleOutlined, WarningFilled } from "@ant-design/icons";
import { Button, Space } from "antd";
import { number, percent, whole } from "../../app/format";
import { useT, type Translate } from "../../app/i18n";
import type { Change } from "../../app/useView";
import type { Detector } from "./rolloutView";
import { useDetectors } from "./useRollouts";

const ICONS = { found: <WarningFilled className="new" />, clear: <CheckCircleOutlined className="quiet" />, too_little: <MinusCircleOutlined className="quiet" /> };

/** Signs of reward hacking, each with its story and the samples that show it. */
export function Detectors({ jobId, newest, sign, change }: { jobId: number; newest: number; sign: string | null; change: Change }) {
  const t = useT();
  const found = useDetectors(jobId, newest);
  // The rollouts can be read without them.
  if (!found.data) return <div className="bar detectors quiet">{found.error ? t("rollouts.signsFailed") : t("rollouts.signsWait")}</div>;
  const open = found.data.detectors.find((one) => one.name === sign);
  return (
    <section className="detectors" aria-label={t("rollouts.signs")}>
      <Space wrap size={[8, 4]}>
        <b>{t("rollouts.signs")}</b>
        {found.data.detectors.map((one) => (
          <Button key={one.name} size="small" type={one.name === sign ? "primary" : "default"} ghost={one.name === sign} icon={ICONS[one.verdict]} aria-expanded={one.name === sign} onClick={() => change({ sign: one.name === sign ? null : one.name })} data-testid={`detector-${one.name}`} data-verdict={one.verdict}>
            {t(`rollouts.sign.${one.name}`)}
          </Button>
        ))}
      </Space>
      {open && (
        <div className="detector-story" data-testid="detector-story" data-verdict={open.verdict}>
          <p>{story(open, t)}</p>
          <p className="quiet">{t(`rollouts.rule.${open.name}`)} {t("rollouts.read", { n: whole(found.data.num_steps) })}</p>
          {open.samples.length > 0 && (
            <Space wrap size={4}>
              {t("rollouts.show")}
              {open.samples.map(({ step, index }) => (
                <Button key={`${step} ${index}`} size="small" type="link" onClick={() => change({ step: String(step), at: String(index) })} data-testid="detector-sample">
                  {t("rollouts.place", { step: whole(step), index })}
                </Button>
              ))}
            </Space>
          )}
        </div>
      )}
    </section>
  );
}

function story(one: Detector, t: Translate): string {
  const { early = 0, late = 0, t: errors = 0, reward_early = 0, reward_late = 0 } = one.figures;
  if (one.verdict === "too_little") return t("rollouts.tooLittle");
  const figure = one.name === "repetition" || one.name === "answer_without_reasoning" ? percent : (value: number) => number(value, 3);
  const span = ([first = 0, last = 0]: number[]) => t("rollouts.stepsAre", { first: whole(first), last: whole(last) });
  const figures = { early: figure(early), late: figure(late), errors: number(Math.abs(errors), 2), before: number(reward_early, 3), after: number(reward_late, 3), one: span(one.early), two: span(one.late) };
  return `${t(one.verdict === "found" ? "rollouts.isFound" : "rollouts.isClear")} ${t(`rollouts.story.${one.name}`, figures)}`;
}
