/** How far a job is, in words. */
import type { Job } from "../../api/client";
import { clock, number, whole } from "../../app/format";
import type { Language, Translate } from "../../app/i18n";

/** "step 412 of 1,000, 3.1 s/step, ends about 14:20" */
export function progressText(job: Job, t: Translate, language: Language, now: number): string {
  if (job.step === null) return "";
  const parts = [
    job.total_steps === null
      ? t("progress.step", { step: whole(job.step) })
      : t("progress.of", { step: whole(job.step), total: whole(job.total_steps) }),
    ...pace(job, t, language, now),
  ];
  return parts.join(language === "zh" ? "，" : ", ");
}

/** "412 / 1,000, 3.1 s/step, ends about 14:20" */
export function shortProgressText(job: Job, t: Translate, language: Language, now: number): string {
  if (job.step === null) return "";
  const steps = job.total_steps === null ? whole(job.step) : `${whole(job.step)} / ${whole(job.total_steps)}`;
  return [steps, ...pace(job, t, language, now)].join(language === "zh" ? "，" : ", ");
}

function pace(job: Job, t: Translate, language: Language, now: number): string[] {
  if (job.step === null || job.seconds_per_step === null) return [];
  const found = [t("progress.pace", { pace: number(job.seconds_per_step, 3) })];
  if (job.state === "running" && job.total_steps !== null && job.total_steps > job.step) {
    const left = 1000 * job.seconds_per_step * (job.total_steps - job.step);
    found.push(t("progress.ends", { time: clock(now + left, language) }));
  }
  return found;
}

/** What kind of run it is, in a word. */
export function kindOf(job: Job, t: Translate): string {
  if (job.kind === "external") return t("kind.external");
  if (job.kind === "compare") return t("kind.compare");
  return job.algorithm ?? t("kind.evaluate");
}

const STANDS_FOR = ["reward_mean", "accuracy", "loss"];

/** The newest value that says most about how the job does. */
export function mainValue(job: Job): [string, number | string] | null {
  const name = STANDS_FOR.find((candidate) => job.last_values[candidate] !== undefined);
  const value = name === undefined ? undefined : job.last_values[name];
  return name === undefined || value === undefined ? null : [name, value];
}

/** Values to read beside it, in the order of their names. */
export function otherValues(job: Job): [string, number | string][] {
  return Object.entries(job.last_values)
    .filter(([name]) => !name.startsWith("native/"))
    .sort(([a], [b]) => a.localeCompare(b));
}
