/** How a job that changed goes into a list that was loaded before. Pure. */
import type { Job, Schemas } from "../../api/client";

export type JobList = Schemas["JobPage"];

/** The list with the job in its place; the same list where it does not stand. What was asked for beyond the row stays. */
export function merged(page: JobList, job: Job): JobList {
  if (!page.jobs.some((row) => row.id === job.id)) return page;
  return { ...page, jobs: page.jobs.map((row) => (row.id === job.id ? { ...job, settings: row.settings } : row)) };
}
