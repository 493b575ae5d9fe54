import { useQuery } from "@tanstack/react-query";
import { Button, Skeleton, Table } from "antd";
import { api, take, type Schemas } from "../../api/client";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { withCondition } from "./query";

interface Props {
  /** As it goes to the server. */
  query: string;
  by: string;
  metric: string;
  /** Show the runs of one group. */
  open: (condition: string) => void;
}

type Group = Schemas["GroupView"];

/** Runs by the value of a setting: how many, and mean and band of a metric. */
export function GroupTable({ query, by, metric, open }: Props) {
  const t = useT();
  const found = useQuery({
    queryKey: ["jobs", "groups", query, by, metric],
    queryFn: () => take(api.GET("/api/jobs/groups", { params: { query: { query, by, metric } } })),
    placeholderData: (before) => before,
  });
  if (found.error) return <ErrorCard error={found.error} />;
  if (!found.data) return <Skeleton active />;
  const groups = found.data.groups;
  const low = Math.min(...groups.flatMap((group) => group.low ?? []));
  const high = Math.max(...groups.flatMap((group) => group.high ?? []));
  return (
    <Table<Group>
      size="small"
      className="card"
      data-testid="groups"
      rowKey={(group) => String(group.value)}
      dataSource={groups}
      pagination={false}
      columns={[
        { title: by, render: (_, group) => (group.value === null ? "–" : <Button type="link" size="small" onClick={() => open(withCondition("", { field: by, operator: ":", value: group.value ?? "" }))}>{group.value}</Button>) },
        { title: t("runs.title"), width: 90, align: "right", render: (_, group) => whole(group.num_jobs) },
        { title: t("group.mean", { metric }), width: 150, align: "right", render: (_, group) => number(group.mean) },
        { title: t("group.range"), width: 190, align: "right", render: (_, group) => (group.low === null ? "–" : `${number(group.low)} – ${number(group.high)}`) },
        { title: "", render: (_, group) => <Band group={group} low={low} high={high} /> },
      ]}
    />
  );
}

function Band({ group, low, high }: { group: Group; low: number; high: number }) {
  if (group.low === null || group.high === null || group.mean === null || high <= low) return null;
  const at = (value: number) => (100 * (value - low)) / (high - low);
  return (
    <div className="band" aria-hidden>
      <span className="range" style={{ left: `${at(group.low)}%`, width: `${at(group.high) - at(group.low)}%` }} />
      <span className="point" style={{ left: `${at(group.mean)}%` }} />
    </div>
  );
}
