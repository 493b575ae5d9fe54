import { useQuery } from "@tanstack/react-query";
import { Alert } from "antd";
import { Link } from "react-router";
import { api, take, type JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { foldLines, plainText } from "./logText";

const TAIL_BYTES = 8192;
const TAIL_LINES = 14;

/** Why the run stands still, what to do next, and the end of its output. */
export function FailureCard({ job }: { job: JobDetail }) {
  const t = useT();
  const tail = useQuery({
    queryKey: ["tail", job.id, job.attempt, job.state],
    queryFn: () =>
      take(api.GET("/api/jobs/{job_id}/logs", { params: { path: { job_id: job.id }, query: { attempt: job.attempt, offset: -TAIL_BYTES, max_bytes: TAIL_BYTES } } })),
    enabled: job.attempt > 0,
  });
  const lines = foldLines(tail.data?.text ?? "").map(plainText).filter((line) => line.trim() !== "").slice(-TAIL_LINES);
  const next = job.state === "lost" ? t("failure.lost") : job.verbs.includes("retry") ? t("failure.retry") : t("failure.copy");
  return (
    <Alert
      className="card"
      type={job.state === "failed" ? "error" : "warning"}
      showIcon
      data-testid="failure"
      title={job.cause || t(`state.${job.state}`)}
      description={
        <>
          <p>{next}</p>
          {lines.length > 0 && (
            <>
              <pre className="log">{lines.join("\n")}</pre>
              <Link to="?tab=logs">{t("failure.logs")}</Link>
            </>
          )}
        </>
      }
    />
  );
}
