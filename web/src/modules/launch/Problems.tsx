import { useQuery } from "@tanstack/react-query";
import { Alert } from "antd";
import { api, take, type Schemas } from "../../api/client";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { dataNames } from "./data";
import type { Draft } from "./useDraft";

/** The verdict on the draft: what is wrong at which line, or that it is valid. */
export function Problems({ draft }: { draft: Draft }) {
  const problems = draft.verdict?.problems ?? [];
  return (
    <div className="launch-verdict">
      {draft.verdict?.is_valid && <Valid spec={draft.verdict.spec} />}
      {problems.length > 0 && <ProblemList problems={problems} />}
      {draft.error && <ErrorCard error={draft.error} retry={draft.recheck} />}
    </div>
  );
}

export function ProblemList({ problems }: { problems: Schemas["ProblemView"][] }) {
  const t = useT();
  return (
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
  );
}

/** The job file is valid; whether the data it names is here is another question. */
function Valid({ spec }: { spec: unknown }) {
  const t = useT();
  const datasets = useQuery({ queryKey: ["datasets"], queryFn: () => take(api.GET("/api/datasets")) });
  const versions = datasets.data?.versions ?? [];
  const known = new Set(versions.flatMap((row) => [row.name, row.ref]));
  const isComplete = datasets.data?.total === versions.length;
  const missing = isComplete ? [...new Set(dataNames(spec))].filter((name) => !known.has(name)) : [];
  if (missing.length === 0) return <Alert type="success" title={t("launch.valid")} data-testid="launch-valid" />;
  return <Alert type="warning" title={t("launch.valid")} description={t("launch.needsData", { names: missing.join(", ") })} data-testid="launch-needs-data" />;
}
