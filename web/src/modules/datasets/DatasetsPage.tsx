import { useQuery } from "@tanstack/react-query";
import { Card, Table } from "antd";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, take } from "../../api/client";
import { bytes } from "../../app/format";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { RelativeTime } from "../../ui/RelativeTime";
import { GenerateCard } from "./GenerateCard";

const PAGE = 50;

/** Versions of all datasets, and the rows of one. */
export default function DatasetsPage() {
  const t = useT();
  const { ref } = useParams();
  const versions = useQuery({ queryKey: ["datasets"], queryFn: () => take(api.GET("/api/datasets")) });
  const rows = versions.data?.versions ?? [];
  return (
    <div className="page">
      <div className="page-title"><h1>{t("data.title")}</h1></div>
      {versions.error && !versions.data && <ErrorCard error={versions.error} retry={() => void versions.refetch()} />}
      <div className="grid-2">
        <Card size="small" title={t("data.versions")}>
          {versions.data && rows.length === 0 ? (
            <EmptyState text={t("data.empty")} command="finery data import rows.jsonl --name mine" />
          ) : (
            <Table
              size="small"
              rowKey="ref"
              dataSource={rows}
              pagination={rows.length > 20 ? { pageSize: 20 } : false}
              columns={[
                { title: t("col.reference"), render: (_, row) => <Link to={`/datasets/${row.ref}`}>{row.ref}</Link> },
                { title: t("col.format"), dataIndex: "format" },
                { title: t("col.rows"), render: (_, row) => row.num_rows.toLocaleString("en") },
                { title: t("col.size"), render: (_, row) => bytes(row.num_bytes) },
                { title: t("runs.created"), render: (_, row) => <RelativeTime moment={row.created_at} /> },
              ]}
            />
          )}
        </Card>
        <GenerateCard />
      </div>
      {ref && <Rows reference={ref} />}
    </div>
  );
}

function Rows({ reference }: { reference: string }) {
  const t = useT();
  const [page, setPage] = useState(1);
  const found = useQuery({
    queryKey: ["rows", reference, page],
    queryFn: () => take(api.GET("/api/datasets/{ref}/rows", { params: { path: { ref: reference }, query: { offset: (page - 1) * PAGE, limit: PAGE } } })),
    placeholderData: (before) => before,
  });
  if (found.error && !found.data) return <ErrorCard error={found.error} />;
  const rows = (found.data?.rows ?? []).map((row, index) => ({ row: row as Record<string, unknown>, number: (page - 1) * PAGE + index }));
  const columns = [...new Set(rows.flatMap(({ row }) => Object.keys(row)))];
  return (
    <Card size="small" title={t("data.rowsOf", { ref: reference })} style={{ marginTop: 12 }}>
      <Table
        size="small"
        rowKey="number"
        dataSource={rows}
        scroll={{ x: 700 }}
        pagination={{ pageSize: PAGE, current: page, total: found.data?.num_rows ?? 0, onChange: setPage, showSizeChanger: false }}
        columns={[
          { title: "#", dataIndex: "number", width: 70 },
          ...columns.map((name) => ({
            title: name,
            render: (_: unknown, item: (typeof rows)[number]) => <div className="text">{cell(item.row[name])}</div>,
          })),
        ]}
      />
    </Card>
  );
}

function cell(value: unknown): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}
