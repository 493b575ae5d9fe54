import { useQuery } from "@tanstack/react-query";
import { Alert, ConfigProvider, Segmented, Skeleton } from "antd";
import { useMemo, useState } from "react";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";
import { useDark } from "../../app/theme";
import { ErrorCard } from "../../ui/ErrorCard";
import { isObject, type Edit, type Path, type Schema } from "../../ui/schema";
import { SchemaContext, type FieldProblem } from "../../ui/schemaContext";
import { JobSections } from "./JobSections";
import type { Draft } from "./useDraft";

/** The job file as a form over the same text. Of a pipeline, one job at a time. */
export function LaunchForm({ draft }: { draft: Draft }) {
  const t = useT();
  const isDark = useDark();
  const schema = useQuery({ queryKey: ["job-schema"], queryFn: () => take(api.GET("/api/jobs/schema")), staleTime: Infinity });
  const datasets = useQuery({ queryKey: ["datasets"], queryFn: () => take(api.GET("/api/datasets")) });
  const { values, error } = draft.reading;
  const root = schema.data?.json_schema as Schema | undefined;
  const versions = datasets.data?.versions;
  const problems = draft.verdict?.problems;
  const form = useMemo(() => {
    const names = [...new Set((versions ?? []).flatMap((row) => [row.name, row.ref]))];
    const suggest = (path: string) => (/(^|\.)task\.data(\.train)?$/.test(path) ? names : []);
    return { root: root ?? {}, problems: (problems ?? []) as FieldProblem[], suggest, change: (edits: Edit[]) => draft.edit(edits) };
  }, [root, versions, problems, draft]);
  if (schema.error) return <ErrorCard error={schema.error} retry={() => void schema.refetch()} />;
  if (!root) return <Skeleton active />;
  return (
    <SchemaContext value={form}>
      {error !== null && <Alert type="warning" title={t("launch.unreadable")} description={error} style={{ marginBottom: 10 }} data-testid="launch-unreadable" />}
      <ConfigProvider componentDisabled={error !== null} theme={{ token: { colorTextPlaceholder: isDark ? "rgba(255, 255, 255, 0.55)" : "rgba(0, 0, 0, 0.55)" } }}>
        {values.kind === "pipeline" ? <PipelineForm values={values} root={root} /> : <JobSections root={root} value={values} path={[]} />}
      </ConfigProvider>
    </SchemaContext>
  );
}

function PipelineForm({ values, root }: { values: Record<string, unknown>; root: Schema }) {
  const t = useT();
  const [chosen, setChosen] = useState(0);
  const jobs: unknown[] = Array.isArray(values.jobs) ? values.jobs : [];
  const index = Math.min(chosen, jobs.length - 1);
  if (jobs.length === 0) return <Alert type="info" title={t("launch.noJobs")} />;
  const path: Path = ["jobs", index];
  return (
    <>
      <div className="bar">
        <span className="quiet">{t("launch.jobs", { name: String(values.name ?? "") })}</span>
        <Segmented
          size="small"
          value={index}
          onChange={setChosen}
          data-testid="launch-job"
          options={jobs.map((job, number) => ({ value: number, label: isObject(job) && typeof job.name === "string" ? job.name : `#${number + 1}` }))}
        />
      </div>
      <JobSections key={index} root={root} value={jobs[index]} path={path} />
    </>
  );
}
