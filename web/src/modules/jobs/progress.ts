/** How far a job is, in words. */
import type { Job } from "../../api/client";
import { clock, number } from "../../app/format";
import type { Language, Translate } from "../../app/i18n";

/** "step 412 of 1,000, 3.1 s/step, ends about 14:20" */
export function progressText(job: Job, t: Translate, language: Language, now: number): string {
  if (job.step === null) return "";
  const parts = [
    job.total_steps === null
      ? t("progress.step", { step: job.step })
      : t("progress.of", { step: job.step.toLocaleString("en"), total: job.total_steps.toLocaleString("en") }),
  ];
  if (job.seconds_per_step !== null) {
    parts.push(t("progress.pace", { pace: number(job.seconds_per_step) }));
    if (job.state === "running" && job.total_steps !== null) {
      const left = 1000 * job.seconds_per_step * (job.total_steps - job.step);
      parts.push(t("progress.ends", { time: clock(now + left, language) }));
    }
  }
  return parts.join(language === "zh" ? "，" : ", ");
}

const SHOWN = ["reward_mean", "accuracy", "loss", "grad_norm"];

/** The few newest values that a table shows. */
export function newestValues(job: Job): [string, number | string][] {
  return SHOWN.flatMap((name) => {
    const value = job.last_values[name];
    return value === undefined ? [] : [[name, value] as [string, number | string]];
  });
}
