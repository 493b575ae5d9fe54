import { Table } from "antd";
import { Link } from "react-router";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { RunDot } from "../../ui/RunDot";
import { shortNames, type Dimension } from "./logic";
import type { RunName } from "./plotOptions";

const NAME_WIDTH = 240;
const VALUE_WIDTH = 130;

/** The numbers of a drawing, and which colour is whose. */
export function PointsTable({ runs, shown }: { runs: RunName[]; shown: Dimension[] }) {
  const t = useT();
  const names = shortNames(shown.map((one) => one.label));
  const rows = runs.map((run, index) => ({ ...run, index }));
  return (
    <Table
      size="small"
      rowKey="id"
      dataSource={rows}
      pagination={false}
      scroll={{ x: NAME_WIDTH + VALUE_WIDTH * shown.length }}
      columns={[
        {
          title: t("compare.run"),
          width: NAME_WIDTH,
          fixed: "start",
          rowScope: "row",
          render: (_, run) => <span className="cell-line"><RunDot jobId={run.id} /><Link to={`/runs/${run.id}`} title={run.name}>{run.name}</Link></span>,
        },
        ...shown.map((one, at) => ({
          key: `${one.id} ${at}`,
          title: <span title={one.label}>{names[at]}</span>,
          width: VALUE_WIDTH,
          align: "end" as const,
          render: (_: unknown, run: (typeof rows)[number]) => exact(one.values[run.index]),
          sorter: (a: (typeof rows)[number], b: (typeof rows)[number]) => (one.values[a.index] ?? Infinity) - (one.values[b.index] ?? Infinity),
        })),
      ]}
    />
  );
}

/** Counts and seeds to their last digit. */
function exact(value: number | undefined): string {
  return Number.isSafeInteger(value) && value !== undefined ? whole(value) : number(value);
}
