import { useMutation, useQuery } from "@tanstack/react-query";
import { Alert, Button, Card, Skeleton, Space } from "antd";
import { lazy, Suspense, useState } from "react";
import { api, ApiError, take, type JobDetail, type Problem } from "../../api/client";
import { useT } from "../../app/i18n";
import { part } from "../../app/parts";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { ProblemList } from "../launch/Problems";
import { rulesText } from "./alerts";
import { Rehearsed } from "./Rehearsed";
import { useRules } from "./useAlerts";

const YamlEditor = lazy(() => part(import("../../ui/YamlEditor")).then((found) => ({ default: found.YamlEditor })));

const DRAFT = "finery.rules";
const NONE: Problem[] = [];
const ONE = `- name: my_rule
  when: grad_norm > 10 for 5 steps
  then:
  - {name: reduce_lr, params: {factor: 0.5}}
  cooldown_steps: 50
  max_count: 5`;

/** Rules as text, and what they would have done in this run. The text outlives a reload. */
export function TryRules({ job }: { job: JobDetail }) {
  const t = useT();
  const own = useRules(job.id);
  const known = useQuery({ queryKey: ["rules"], queryFn: () => take(api.GET("/api/rules")), staleTime: Infinity });
  const [draft, setDraft] = useState(() => window.localStorage.getItem(DRAFT));
  const rehearse = useMutation({ mutationFn: (wanted: string) => take(api.POST("/api/jobs/{job_id}/rules/dry-run", { params: { path: { job_id: job.id } }, body: { text: wanted } })) });
  if (own.error && !own.data) return <ErrorCard error={own.error} retry={() => void own.refetch()} />;
  if (known.error && !known.data) return <ErrorCard error={known.error} retry={() => void known.refetch()} />;
  if (!own.data || !known.data) return <Skeleton active />;
  const ownText = own.data.rules.length > 0 ? rulesText(own.data.rules) : known.data.text;
  const text = draft ?? ownText;
  const write = (next: string) => {
    setDraft(next);
    window.localStorage.setItem(DRAFT, next);
  };
  const isStale = rehearse.variables !== undefined && rehearse.variables !== text;
  const problems = !isStale && rehearse.error instanceof ApiError ? rehearse.error.problems : NONE;
  return (
    <div className="try-rules">
      <div>
        <div className="bar">
          <Space wrap size={4}>
            <span className="quiet">{t("alerts.try.from")}</span>
            {own.data.rules.length > 0 && <Button size="small" onClick={() => write(ownText)} data-testid="try-own">{t("alerts.try.own")}</Button>}
            <Button size="small" onClick={() => write(known.data.text)} data-testid="try-default">{t("alerts.try.default")}</Button>
            <Button size="small" onClick={() => write(ONE)} data-testid="try-one">{t("alerts.try.one")}</Button>
          </Space>
        </div>
        <Suspense fallback={<Skeleton active />}>
          <YamlEditor text={text} change={write} problems={problems} label={t("alerts.try.editor")} height="calc(100vh - 330px)" testId="rules-editor" />
        </Suspense>
        <details className="try-help">
          <summary>{t("alerts.try.actions")}</summary>
          <dl>{known.data.actions.map((action) => <div key={action.name}><dt><code>{action.name}</code></dt><dd>{action.summary}</dd></div>)}</dl>
        </details>
      </div>
      <div className="stack" aria-live="polite">
        <div className="bar" style={{ marginBottom: 0 }}>
          <Button type="primary" disabled={text.trim() === ""} loading={rehearse.isPending} onClick={() => rehearse.mutate(text)} data-testid="try-run">{t("alerts.try.run")}</Button>
          <span className="quiet">{isStale ? t("alerts.try.stale") : t("alerts.try.why")}</span>
        </div>
        {problems.length > 0 ? <ProblemList problems={problems} /> : rehearse.error && <Refusal error={rehearse.error} />}
        {rehearse.data && <Card size="small" title={t("alerts.try.answer")}><Rehearsed found={rehearse.data} /></Card>}
        {rehearse.isIdle && <EmptyState text={t("alerts.try.empty")} />}
      </div>
    </div>
  );
}

/** What is wrong with the text as a whole. */
function Refusal({ error }: { error: Error }) {
  const t = useT();
  return <Alert type="error" showIcon title={t("error.title")} description={error.message || t("error.unreachable")} data-testid="try-refused" />;
}
