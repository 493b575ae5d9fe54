/** Names of dataset versions in a job or in the jobs of a pipeline; files and objects are left out. */
export function dataNames(spec: unknown): string[] {
  const { task, jobs } = (spec ?? {}) as { task?: { data?: unknown } | null; jobs?: unknown };
  if (Array.isArray(jobs)) return jobs.flatMap(dataNames);
  const data = task?.data;
  const name = typeof data === "object" && data !== null ? (data as { train?: unknown }).train : data;
  return typeof name === "string" && /^[a-z0-9][a-z0-9._-]*(@\d+)?$/.test(name) ? [name] : [];
}
