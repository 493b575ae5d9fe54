import { Button } from "antd";
import { Link } from "react-router";
import type { Job } from "../../api/client";
import { bytes } from "../../app/format";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { RunDot } from "../../ui/RunDot";
import { StateBadge } from "../../ui/StateBadge";
import type { Item } from "./attention";

/** One thing that needs a person: what it is, why, and since when. */
export function AttentionLine({ item, isNew, archive }: { item: Item; isNew: boolean; archive: (job: Job) => void }) {
  const t = useT();
  if (item.kind === "disk") {
    return (
      <li className="line line-alert" data-severity="error">
        <b>{t("home.diskFull")}</b>
        <span>{t("home.diskFullWhy", { free: bytes(item.free), total: bytes(item.total) })}</span>
      </li>
    );
  }
  const since = <span>{isNew && <b className="new">{t("home.new")}</b>} <span className="quiet"><RelativeTime moment={item.at} /></span></span>;
  if (item.kind === "alert") {
    const { job_id, job_name, alert } = item.alert;
    return (
      <li className="line line-alert" data-severity={alert.severity}>
        <span className="line-name"><RunDot jobId={job_id} /> <Link to={`/runs/${job_id}`}>{job_name}</Link> <span className="quiet">#{job_id}</span></span>
        <span>{alert.rule}{item.count > 1 && ` ×${item.count}`}</span>
        <span className="cut" title={alert.message}>{alert.message}</span>
        {since}
      </li>
    );
  }
  const { job } = item;
  return (
    <li className="line line-alert" data-severity={job.state === "failed" ? "error" : "warning"} data-testid={`attention-job-${job.id}`}>
      <span className="line-name"><RunDot jobId={job.id} /> <Link to={`/runs/${job.id}`}>{job.name}</Link> <span className="quiet">#{job.id}</span></span>
      <StateBadge job={job} />
      <span className="cut" title={job.cause}>{job.cause}</span>
      {since}
      {job.state === "failed" && <Button size="small" type="text" onClick={() => archive(job)}>{t("home.archive")}</Button>}
    </li>
  );
}
