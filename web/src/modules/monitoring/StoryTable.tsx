import { Table, Tag } from "antd";
import { Link } from "react-router";
import type { JobDetail } from "../../api/client";
import { whole } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { alertText, changeText, chartsAt, outcomeOf, personText, type Entry, type Outcome } from "./alerts";
import { SeverityTag } from "./SeverityTag";
import { UndoButton } from "./UndoButton";

const PAGE = 50;
const REFUSED: readonly Outcome[] = ["refused", "notUndone"];

/** Alerts and what rules did about them, newest first. */
export function StoryTable({ job, entries }: { job: JobDetail; entries: readonly Entry[] }) {
  const t = useT();
  const isGuest = useIsGuest();
  return (
    <Table<Entry>
      size="small"
      rowKey="cursor"
      pagination={entries.length > PAGE ? { pageSize: PAGE, showSizeChanger: false } : false}
      dataSource={[...entries]}
      onRow={(row) => ({ "data-testid": `story-${row.event.type}`, "data-cursor": row.cursor }) as React.HTMLAttributes<HTMLElement>}
      columns={[
        { title: t("alerts.when"), width: 120, render: (_, row) => <RelativeTime moment={new Date(1000 * row.event.time).toISOString()} /> },
        { title: t("col.step"), width: 90, render: (_, row) => <StepLink step={row.event.step ?? null} /> },
        { title: t("col.attempt"), dataIndex: "attempt", width: 84 },
        { title: t("alerts.rule"), width: 170, render: (_, row) => row.event.rule },
        { title: t("alerts.what"), render: (_, row) => <What entry={row} /> },
        { title: t("alerts.outcome"), width: 150, render: (_, row) => <OutcomeTag entry={row} /> },
        ...(isGuest ? [] : [{ title: t("alerts.undo"), width: 96, render: (_: unknown, row: Entry) => row.undo && <UndoButton job={job} entry={row} /> }]),
      ]}
    />
  );
}

export function StepLink({ step }: { step: number | null }) {
  const t = useT();
  if (step === null) return <>–</>;
  return <Link to={chartsAt(step)} aria-label={t("alerts.charts", { step: whole(step) })}>{whole(step)}</Link>;
}

function What({ entry: { event, undone } }: { entry: Entry }) {
  const t = useT();
  if (event.type === "alert") return <span className="text">{alertText(event)}</span>;
  const change = changeText(event);
  return (
    <div className="story-what">
      <span><code>{event.action}</code> {change && <b data-testid="story-change">{change}</b>}</span>
      {(change === "" || event.action === "rollback_checkpoint") && <span className="text">{event.message}</span>}
      {undone && (
        <span className="quiet" data-testid="story-undone">
          {t("alerts.undoneBy", { who: personText(undone.by, t) })} <RelativeTime moment={undone.requested_at} />{undone.message && `: ${undone.message}`}
        </span>
      )}
    </div>
  );
}

function OutcomeTag({ entry: { event, undone } }: { entry: Entry }) {
  const t = useT();
  if (event.type === "alert") return <SeverityTag severity={event.severity} />;
  const outcome = outcomeOf(event, undone);
  return <Tag variant="outlined" className="tone" data-tone={REFUSED.includes(outcome) ? "warning" : "info"} data-testid="story-outcome" data-outcome={outcome}>{t(`alerts.outcome.${outcome}`)}</Tag>;
}
