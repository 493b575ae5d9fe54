import { Badge, Tooltip } from "antd";
import type { Job } from "../api/client";
import { useT } from "../app/i18n";
import { STATE_STATUS } from "./colours";

/** State of a job with its cause on hover. */
export function StateBadge({ job }: { job: Pick<Job, "state" | "cause"> }) {
  const t = useT();
  const badge = (
    <span data-testid="state" data-state={job.state}>
      <Badge status={STATE_STATUS[job.state]} text={t(`state.${job.state}`)} />
    </span>
  );
  return job.cause ? <Tooltip title={job.cause}>{badge}</Tooltip> : badge;
}
