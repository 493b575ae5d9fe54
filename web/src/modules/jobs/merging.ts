/** How a job that changed goes into a list that was loaded before. Pure. */
import type { Job, Schemas } from "../../api/client";

export type JobList = Schemas["JobPage"];

export interface Merged {
  page: JobList;
  /** The job may belong to the list but is not on it: ask the server. */
  isMissing: boolean;
}

/**
 * @param states the list's filter; empty takes every state
 */
export function merged(page: JobList, job: Job, states: string[]): Merged {
  const isWanted = states.length === 0 || states.includes(job.state);
  const isKnown = page.jobs.some((row) => row.id === job.id);
  if (!isKnown) return { page, isMissing: isWanted };
  if (isWanted) return { page: { ...page, jobs: page.jobs.map((row) => (row.id === job.id ? job : row)) }, isMissing: false };
  return { page: { total: page.total - 1, jobs: page.jobs.filter((row) => row.id !== job.id) }, isMissing: false };
}
