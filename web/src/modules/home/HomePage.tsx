import { useQuery } from "@tanstack/react-query";
import { Button, Card, Skeleton } from "antd";
import type { ReactNode } from "react";
import { Link } from "react-router";
import { api, take, type Job } from "../../api/client";
import { useLanguage, useT } from "../../app/i18n";
import { useTitle } from "../../app/title";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { RelativeTime } from "../../ui/RelativeTime";
import { RunDot } from "../../ui/RunDot";
import { StateBadge } from "../../ui/StateBadge";
import { ValueCell } from "../jobs/columns";
import { FIRST_RUN } from "../jobs/RunsPage";
import { shortProgressText } from "../jobs/progress";
import { useEdit } from "../jobs/useEdit";
import { useJobs } from "../jobs/useJobs";
import { attention, type Item } from "./attention";
import { DevicesCard, useDevices } from "./Devices";
import { AttentionLine } from "./AttentionLine";
import { useLastVisit } from "./useLastVisit";

const UNENDED = { query: "state:created,queued,allocated,running,pausing,paused,cancelling,lost", sort: "", settings: [] };
const ENDED = { query: "ended>7d state:completed,failed,cancelled", sort: "-ended", settings: [] };
const MOVING: Job["state"][] = ["allocated", "running", "pausing", "cancelling"];
const WAITING: Job["state"][] = ["created", "queued"];
const MAX_LINES = 20;
const MAX_ALERTS = 200;
const ALERTS_POLL_MS = 10_000;

/** What runs, what waits, what needs a person, how busy the machine is. */
export default function HomePage() {
  const t = useT();
  useTitle(t("nav.home"));
  const unended = useJobs(UNENDED);
  const ended = useJobs(ENDED);
  const alerts = useQuery({
    queryKey: ["alerts"],
    queryFn: () => take(api.GET("/api/alerts", { params: { query: { limit: MAX_ALERTS } } })),
    refetchInterval: ALERTS_POLL_MS,
  });
  const devices = useDevices();
  const lastVisit = useLastVisit();
  const edit = useEdit();
  const open = unended.data?.pages.flatMap((page) => page.jobs) ?? [];
  const past = ended.data?.pages.flatMap((page) => page.jobs) ?? [];
  const items = attention([...open, ...past], alerts.data?.alerts ?? [], devices.data, Date.now());
  const running = open.filter((job) => MOVING.includes(job.state));
  const waiting = open.filter((job) => WAITING.includes(job.state)).reverse();
  const finished = past.filter((job) => job.state !== "failed");
  const isNew = (moment: string | null) => moment !== null && Date.parse(moment) > lastVisit;
  const error = unended.error ?? ended.error;
  if (error && !unended.data) return <div className="page"><ErrorCard error={error} retry={() => void unended.refetch()} /></div>;
  if (!unended.data || !ended.data) return <div className="page"><Skeleton active /></div>;
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("nav.home")}</h1>
        <Link to="/launch"><Button type="primary">{t("runs.launch")}</Button></Link>
      </div>
      <div className="home">
        <div className="stack">
          <Section name="attention" title={t("home.attention")} count={items.length} nothing={t("home.noAttention")}>
            {items.slice(0, MAX_LINES).map((item) => (
              <AttentionLine
                key={keyOf(item)}
                item={item}
                isNew={item.kind !== "disk" && isNew(item.at)}
                archive={(job) => edit.mutate({ ids: [job.id], edit: { is_archived: true }, undo: { edit: { is_archived: false }, text: t("edit.archived", { n: 1 }) } })}
              />
            ))}
          </Section>
          <Section name="running" title={t("home.running")} count={running.length} nothing={open.length + past.length > 0 ? t("home.noRunning") : undefined}>
            {running.length === 0 && open.length + past.length === 0
              ? [<EmptyState key="first" text={t("runs.empty")} command={FIRST_RUN} />]
              : running.slice(0, MAX_LINES).map((job) => <JobLine key={job.id} job={job} />)}
          </Section>
          <Section name="waiting" title={t("home.waiting")} count={waiting.length} nothing={t("home.noWaiting")}>
            {waiting.slice(0, MAX_LINES).map((job) => <JobLine key={job.id} job={job} />)}
          </Section>
          <Section name="finished" title={t("home.finished")} count={finished.length} nothing={t("home.noFinished")}>
            {finished.slice(0, MAX_LINES).map((job) => <JobLine key={job.id} job={job} isNew={isNew(job.ended_at)} />)}
          </Section>
        </div>
        <DevicesCard />
      </div>
    </div>
  );
}

/** @param nothing said where there is no line */
function Section({ name, title, count, nothing, children }: { name: string; title: string; count: number; nothing: string | undefined; children: ReactNode[] }) {
  const t = useT();
  return (
    <Card size="small" title={<>{title} <span className="quiet">{count}</span></>} data-testid={`home-${name}`}>
      {children.length > 0 ? <ul className="lines">{children}</ul> : nothing && <span className="quiet">{nothing}</span>}
      {count > MAX_LINES && <Link to="/runs">{t("home.more", { n: count - MAX_LINES })}</Link>}
    </Card>
  );
}

/** One job: where it stands, or why it does not move. */
function JobLine({ job, isNew = false }: { job: Job; isNew?: boolean }) {
  const t = useT();
  const language = useLanguage();
  const words = WAITING.includes(job.state) ? job.cause : shortProgressText(job, t, language, Date.now());
  return (
    <li className="line" data-testid={`home-job-${job.id}`}>
      <span className="line-name"><RunDot jobId={job.id} /> <Link to={`/runs/${job.id}`}>{job.name}</Link> <span className="quiet">#{job.id}</span></span>
      <StateBadge job={job} />
      <span className="cut" title={words}>{words}</span>
      <span className="cut"><ValueCell job={job} /></span>
      <span>{isNew && <b className="new">{t("home.new")}</b>} <span className="quiet"><RelativeTime moment={job.ended_at ?? job.started_at ?? job.created_at} /></span></span>
    </li>
  );
}

function keyOf(item: Item): string {
  if (item.kind === "disk") return "disk";
  return item.kind === "job" ? `job ${item.job.id}` : `alert ${item.alert.job_id} ${item.alert.alert.rule}`;
}
