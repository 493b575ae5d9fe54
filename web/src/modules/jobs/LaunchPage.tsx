import { useMutation, useQuery } from "@tanstack/react-query";
import { Alert, Button, Card, Select, Space } from "antd";
import { useEffect, useState } from "react";
import { useLocation, useNavigate } from "react-router";
import { api, take, type Schemas } from "../../api/client";
import { yaml } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { TEMPLATES } from "./templates";
import { YamlEditor } from "./YamlEditor";

const CHECK_AFTER_MS = 300;
const DRAFT = "finery.draft";

/** Write a job file or change the one handed over, see what is wrong at the line, submit it. The draft outlives a reload. */
export default function LaunchPage() {
  const t = useT();
  const navigate = useNavigate();
  const handedOver = (useLocation().state as { text?: string } | null)?.text;
  const [text, setText] = useState(() => handedOver ?? window.localStorage.getItem(DRAFT) ?? TEMPLATES[0]?.text ?? "");
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    window.localStorage.setItem(DRAFT, text);
    const timer = window.setTimeout(() => setSettled(text), CHECK_AFTER_MS);
    return () => window.clearTimeout(timer);
  }, [text]);
  const verdict = useQuery({
    queryKey: ["check", settled],
    queryFn: () => take(api.POST("/api/jobs/check", { body: { text: settled } })),
    placeholderData: (before) => before,
  });
  const submit = useMutation({
    mutationFn: async (spec: Record<string, unknown>) => {
      if (spec.kind === "pipeline") {
        const made = await take(api.POST("/api/pipelines", { body: { spec: spec as Schemas["PipelineSpec"] } }));
        return made.jobs[0]?.id;
      }
      return (await take(api.POST("/api/jobs", { body: { spec: spec as Schemas["SubmitSpec"]["spec"] } }))).id;
    },
    onSuccess: (id) => void navigate(id === undefined ? "/runs" : `/runs/${id}`),
  });
  const problems = verdict.data?.problems ?? [];
  const isReady = settled === text && verdict.data?.is_valid === true;
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("launch.title")}</h1>
        <Space wrap>
          <Select
            aria-label={t("launch.template")}
            placeholder={t("launch.template")}
            value={null}
            style={{ width: 220 }}
            onChange={(index: number | null) => index !== null && setText(TEMPLATES[index]?.text ?? "")}
            options={TEMPLATES.map((template, index) => ({ value: index, label: t(template.key) }))}
          />
          <Button
            type="primary"
            data-testid="launch-submit"
            disabled={!isReady}
            loading={submit.isPending}
            onClick={() => verdict.data?.spec && submit.mutate(verdict.data.spec)}
          >
            {t("launch.submit")}
          </Button>
        </Space>
      </div>
      {submit.error && <div style={{ marginBottom: 12 }}><ErrorCard error={submit.error} /></div>}
      <div className="grid-2">
        <div>
          <YamlEditor text={text} change={setText} problems={problems} label={t("launch.title")} />
          <div style={{ marginTop: 10 }}>
            {verdict.data?.is_valid && <Verdict spec={verdict.data.spec} />}
            {problems.length > 0 && (
              <Alert
                type="error"
                title={t("launch.problems", { n: problems.length })}
                description={problems.map((problem) => (
                  <div key={`${problem.path}${problem.message}`} data-testid="launch-problem" data-line={problem.line ?? ""}>
                    {problem.line !== null && <b>{problem.line}: </b>}
                    <code>{problem.path}</code> {problem.message}
                  </div>
                ))}
              />
            )}
            {verdict.error && <ErrorCard error={verdict.error} retry={() => void verdict.refetch()} />}
          </div>
        </div>
        <Card size="small" title={t("launch.resolved")}>
          <pre>{verdict.data?.spec ? yaml(verdict.data.spec).trim() : ""}</pre>
        </Card>
      </div>
    </div>
  );
}

/** The job file is valid; whether the data it names is here is another question. */
function Verdict({ spec }: { spec: unknown }) {
  const t = useT();
  const datasets = useQuery({ queryKey: ["datasets"], queryFn: () => take(api.GET("/api/datasets")) });
  const versions = datasets.data?.versions ?? [];
  const known = new Set(versions.flatMap((row) => [row.name, row.ref]));
  const isComplete = datasets.data?.total === versions.length;
  const missing = isComplete ? dataNames(spec).filter((name) => !known.has(name)) : [];
  if (missing.length === 0) return <Alert type="success" title={t("launch.valid")} />;
  return <Alert type="warning" title={t("launch.valid")} description={t("launch.needsData", { names: missing.join(", ") })} data-testid="launch-needs-data" />;
}

/** Names of dataset versions in a job or in the jobs of a pipeline; files and objects are left out. */
function dataNames(spec: unknown): string[] {
  const { task, jobs } = spec as { task?: { data?: string | { train: string } | null }; jobs?: unknown[] };
  if (jobs) return jobs.flatMap(dataNames);
  const data = typeof task?.data === "object" ? task.data?.train : task?.data;
  return data && /^[a-z0-9._-]+(@\d+)?$/.test(data) ? [data] : [];
}
