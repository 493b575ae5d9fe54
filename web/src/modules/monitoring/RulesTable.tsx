import { Table, Tag, Tooltip } from "antd";
import { whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { actionText, type Rule } from "./alerts";
import { SeverityTag } from "./SeverityTag";

/** The rules of a run, in the order of their precedence. */
export function RulesTable({ rules }: { rules: readonly Rule[] }) {
  const t = useT();
  return (
    <Table<Rule>
      size="small"
      rowKey="name"
      pagination={false}
      dataSource={[...rules]}
      onRow={(row) => ({ "data-testid": `rule-${row.name}` }) as React.HTMLAttributes<HTMLElement>}
      columns={[
        { title: t("alerts.rule"), width: 250, render: (_, row) => <>{row.name} <SeverityTag severity={row.severity} /> {row.is_muted && <Tooltip title={t("alerts.mutedWhy")}><Tag>{t("alerts.muted")}</Tag></Tooltip>}</> },
        { title: t("alerts.condition"), render: (_, row) => <><code>{row.when}</code> {!row.is_of_steps && <span className="quiet">{t("alerts.outside")}</span>}</> },
        { title: t("alerts.actions"), render: (_, row) => (row.actions.length > 0 ? row.actions.map(actionText).join(", ") : <span className="quiet">{t("alerts.recorded")}</span>) },
        { title: t("alerts.cooldown"), width: 120, render: (_, row) => whole(row.cooldown_steps) },
        { title: t("alerts.fired"), width: 90, render: (_, row) => t("alerts.firedOf", { n: row.num_fired, max: row.max_count }) },
      ]}
    />
  );
}
