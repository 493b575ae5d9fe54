import { useQuery } from "@tanstack/react-query";
import { Card, Table } from "antd";
import { Link } from "react-router";
import { api, ApiError, take, type JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";

/** The recipe that the job started from, and what was changed of it. */
export function RecipeCard({ job }: { job: JobDetail }) {
  const t = useT();
  const name = typeof job.spec.recipe === "string" ? job.spec.recipe : null;
  const found = useQuery({
    queryKey: ["recipe-differences", job.id],
    enabled: name !== null,
    queryFn: () => take(api.GET("/api/jobs/{job_id}/recipe", { params: { path: { job_id: job.id } } })),
  });
  if (name === null || isRefused(found.error)) return null;
  const differences = found.data?.differences ?? [];
  return (
    <Card size="small" title={t("overview.recipe")} extra={<Link to={`/launch?recipe=${encodeURIComponent(name)}`}>{name}</Link>} data-testid="recipe-card" loading={found.isLoading}>
      {found.error && <ErrorCard error={found.error} retry={() => void found.refetch()} />}
      {found.data?.is_known === false && t("overview.recipeGone")}
      {found.data?.is_known && differences.length === 0 && t("overview.recipeSame")}
      {differences.length > 0 && (
        <Table
          size="small"
          rowKey="key"
          pagination={differences.length > 15 ? { pageSize: 15, showSizeChanger: false } : false}
          dataSource={differences}
          columns={[
            { title: t("overview.recipeField"), render: (_, row) => <code>{row.key}</code> },
            { title: t("overview.recipe"), render: (_, row) => <code>{shown(row.recipe)}</code> },
            { title: t("overview.recipeJob"), render: (_, row) => <b><code>{shown(row.job)}</code></b> },
          ]}
        />
      )}
    </Card>
  );
}

/** Who reads the run through a link may not ask for recipes. */
function isRefused(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 401 || error.status === 403);
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
