import { useQuery } from "@tanstack/react-query";
import { Card, Table } from "antd";
import { Link } from "react-router";
import { api, take } from "../../api/client";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { dataNames } from "./data";

const ROWS = 20;

/** The first rows of what the job file names. */
export function DataTab({ values }: { values: unknown }) {
  const t = useT();
  const names = [...new Set(dataNames(values))];
  if (names.length === 0) return <EmptyState text={t("launch.data.none")} />;
  return <div className="stack">{names.map((name) => <Rows key={name} name={name} />)}</div>;
}

function Rows({ name }: { name: string }) {
  const t = useT();
  const found = useQuery({
    queryKey: ["rows", name, "first"],
    queryFn: () => take(api.GET("/api/datasets/{ref}/rows", { params: { path: { ref: name }, query: { limit: ROWS } } })),
  });
  if (found.error && !found.data) return <ErrorCard error={found.error} retry={() => void found.refetch()} />;
  const rows = (found.data?.rows ?? []).map((row, index) => ({ row: row as Record<string, unknown>, number: index }));
  const columns = [...new Set(rows.flatMap(({ row }) => Object.keys(row)))];
  const title = found.data ? t("launch.data.rows", { ref: found.data.ref, shown: rows.length, all: whole(found.data.num_rows) }) : name;
  return (
    <Card size="small" title={title} extra={<Link to={`/datasets/${found.data?.ref ?? name}`}>{t("launch.data.open")}</Link>} data-testid="launch-rows">
      <Table
        size="small"
        rowKey="number"
        loading={found.isLoading}
        dataSource={rows}
        pagination={false}
        scroll={{ x: true, y: 480 }}
        columns={columns.map((column) => ({ title: column, render: (_: unknown, item: (typeof rows)[number]) => <div className="text">{cell(item.row[column])}</div> }))}
      />
    </Card>
  );
}

function cell(value: unknown): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}
