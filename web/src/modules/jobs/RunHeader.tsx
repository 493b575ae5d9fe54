import { Tag } from "antd";
import { Link } from "react-router";
import type { JobDetail } from "../../api/client";
import { duration } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useLanguage, useT } from "../../app/i18n";
import { RunDot } from "../../ui/RunDot";
import { StateBadge } from "../../ui/StateBadge";
import { kindOf, progressText } from "./progress";
import { VerbButtons } from "./VerbButtons";

/** Always in view: what the run is, its state with the true cause, what can be done about it. */
export function RunHeader({ job }: { job: JobDetail }) {
  const t = useT();
  const language = useLanguage();
  const isGuest = useIsGuest();
  const progress = progressText(job, t, language, Date.now());
  const task = job.spec.task as { engine?: string } | undefined;
  const facts: [string, string | null][] = [
    [t("runs.model"), job.model],
    [t("runs.data"), job.data],
    [t("run.engine"), task?.engine === "auto" ? null : (task?.engine ?? null)],
    [t("run.host"), job.attempts.at(-1)?.host ?? null],
    [t("run.seed"), job.kind === "external" ? null : String(job.seed)],
    [t("run.took"), took(job)],
    [t("run.priority"), job.priority === "normal" ? null : job.priority],
    [t("run.pipeline"), job.pipeline],
  ];
  return (
    <header className="run-header">
      <div className="run-story">
        <h1>
          <RunDot jobId={job.id} /> {job.name} <span className="quiet">#{job.id}</span>
          <Tag variant="filled">{kindOf(job, t)}</Tag>
          {job.tags.map((tag) => <Tag key={tag} variant="outlined">{tag}</Tag>)}
        </h1>
        <div className="facts" data-testid="run-header">
          <StateBadge job={job} />
          {job.cause && <b data-testid="cause">{job.cause}</b>}
          {progress && <span data-testid="progress">{progress}</span>}
          {job.attempt > 0 && <span>{t("run.attempt", { n: job.attempt })}</span>}
        </div>
        <div className="facts quiet-labels">
          {facts.map(([label, value]) => value && <span key={label}><i>{label}</i> {value}</span>)}
          {job.parent !== null && <span><i>{t("run.parent")}</i> <Link to={`/runs/${job.parent}?tab=checkpoints`}>#{job.parent}</Link></span>}
          {job.after.length > 0 && (
            <span><i>{t("run.waits")}</i> {job.after.map((other) => <Link key={other} to={`/runs/${other}`}>#{other} </Link>)}</span>
          )}
        </div>
      </div>
      {isGuest ? <span className="quiet" data-testid="guest">{t("share.guest")}</span> : <VerbButtons job={job} />}
    </header>
  );
}

function took(job: JobDetail): string | null {
  if (!job.started_at || !job.ended_at) return null;
  return duration((new Date(job.ended_at).getTime() - new Date(job.started_at).getTime()) / 1000);
}
