/** Live settings: what is in effect, what was asked for, and how that differs from the job file. Pure. */
import type { JobDetail, Schemas } from "../../api/client";

export type Wish = Schemas["RequestView"];
export type Deviation = Schemas["DeviationView"];
export type Change = Deviation["changes"][number];

/** The value that the newest step had. A learning rate that follows a schedule is told with each step. */
export function inEffect(job: JobDetail, name: string): number | string | null {
  const told = job.controls?.[name] ?? null;
  return name === "learning_rate" ? (job.last_values[name] ?? told) : told;
}

/** The newest wish about a setting: one that is open, else one that was answered. */
export function newestWish(job: JobDetail, name: string): Wish | null {
  const isAbout = (wish: Wish) => wish.verb === "set" && name in wish.values;
  return job.requests.filter(isAbout).at(-1) ?? job.answered.find(isAbout) ?? null;
}

export function isOpen(wish: Wish): boolean {
  return wish.outcome === "requested" || wish.outcome === "delivered";
}

/** A number as people write it, such as 5e-6; null for what is none. */
export function readNumber(text: string): number | null {
  const value = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Whether the learning rate changes by itself from step to step. */
export function followsSchedule(job: JobDetail): boolean {
  const { optim } = (job.spec.task ?? {}) as { optim?: { schedule?: string; warmup_steps?: number } };
  return optim !== undefined && (optim.schedule !== "constant" || (optim.warmup_steps ?? 0) > 0);
}

/** What the newest attempt began with that is not in the job file. */
export interface Beginning {
  /** Checkpoint that it went on from. */
  from: string | null;
  /** Steps whose batch is left out. */
  skipped: number[];
  /** The rollback that led to it. */
  rollback: JobDetail["attempts"][number]["rollbacks"][number] | null;
  attempt: number;
}

export function beginningOf(job: JobDetail): Beginning {
  const newest = job.attempts.at(-1);
  const rollback = newest?.rollbacks.at(-1);
  return {
    from: newest?.resumed_from ?? null,
    skipped: newest?.skipped_steps ?? [],
    rollback: rollback && rollback.attempt === (newest?.number ?? 0) - 1 ? rollback : null,
    attempt: newest?.number ?? 0,
  };
}
