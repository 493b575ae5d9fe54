import { Badge, Card, Segmented, Skeleton } from "antd";
import type { JobDetail } from "../../api/client";
import { whole } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { useView } from "../../app/useView";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { RulesTable } from "./RulesTable";
import { StoryTable } from "./StoryTable";
import { TryRules } from "./TryRules";
import { useAlerts, useRules } from "./useAlerts";

/** The tab's name, with the number of alerts. */
export function AlertsLabel({ jobId }: { jobId: number }) {
  const t = useT();
  const num = useAlerts(jobId).data?.num_alerts ?? 0;
  return (
    <>
      {t("tab.alerts")}
      {num > 0 && <Badge count={num} overflowCount={999} size="small" color="#a8480a" className="tab-count" title={t("alerts.count", { n: num })} data-testid="alerts-count" />}
    </>
  );
}

/** What watches the run, what it saw and did, and what other rules would have done. */
export function AlertsTab({ job }: { job: JobDetail }) {
  const t = useT();
  const isGuest = useIsGuest();
  const [address, change] = useView();
  const shown = !isGuest && address.get("alerts") === "try" ? "try" : "story";
  return (
    <>
      {!isGuest && (
        <div className="bar">
          <Segmented
            value={shown}
            onChange={(value) => change({ alerts: value === "try" ? "try" : null })}
            options={[
              { value: "story", label: <span data-testid="alerts-story">{t("alerts.view.story")}</span> },
              { value: "try", label: <span data-testid="alerts-try">{t("alerts.view.try")}</span> },
            ]}
          />
        </div>
      )}
      {shown === "try" ? <TryRules job={job} /> : <Watching job={job} />}
    </>
  );
}

function Watching({ job }: { job: JobDetail }) {
  const t = useT();
  const rules = useRules(job.id);
  const story = useAlerts(job.id);
  return (
    <div className="stack">
      <Card size="small" title={rules.data?.is_default ? t("alerts.rulesDefault") : t("alerts.rules")}>
        {rules.error && !rules.data && <ErrorCard error={rules.error} retry={() => void rules.refetch()} />}
        {rules.isLoading && <Skeleton active />}
        {rules.data && (rules.data.rules.length > 0 ? <RulesTable rules={rules.data.rules} /> : <EmptyState text={t("alerts.noRules")} />)}
      </Card>
      <Card size="small" title={t("alerts.story")} extra={story.data && story.data.entries.length < story.data.total ? t("alerts.newest", { n: whole(story.data.entries.length), total: whole(story.data.total) }) : undefined}>
        {story.error && !story.data && <ErrorCard error={story.error} retry={() => void story.refetch()} />}
        {story.isLoading && <Skeleton active />}
        {story.data && (story.data.entries.length > 0 ? <StoryTable job={job} entries={story.data.entries} /> : <EmptyState text={t("alerts.none")} />)}
      </Card>
    </div>
  );
}
