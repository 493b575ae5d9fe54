import { runColour } from "./colours";

/** The run's colour, the same everywhere. */
export function RunDot({ jobId }: { jobId: number }) {
  return <span className="run-dot" style={{ background: runColour(jobId) }} aria-hidden />;
}
