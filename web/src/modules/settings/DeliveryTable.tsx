import { Table } from "antd";
import { Link } from "react-router";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { DeliveryState } from "./DeliveryState";
import { subject, type Delivery } from "./channel";

/** What was told, newest first: to whom, of which run, what came of it. */
export function DeliveryTable({ deliveries }: { deliveries: Delivery[] }) {
  const t = useT();
  return (
    <Table
      size="small"
      rowKey="id"
      dataSource={deliveries}
      pagination={deliveries.length > 10 ? { pageSize: 10, showSizeChanger: false } : false}
      tableLayout="fixed"
      scroll={{ x: 800 }}
      columns={[
        { title: t("settings.when"), width: 130, render: (_, row) => <RelativeTime moment={row.created_at} /> },
        { title: t("settings.channel"), width: 130, dataIndex: "channel" },
        {
          title: t("settings.run"),
          width: 220,
          render: (_, { notice }) => (notice.job_id === null ? <span>{notice.name} <span className="quiet">{notice.run}</span></span> : <Link to={`/runs/${notice.job_id}`}>{notice.name} #{notice.job_id}</Link>),
        },
        { title: t("settings.what"), width: 200, render: (_, row) => subject(row, (kind) => t(`event.${kind}`)) },
        { title: t("settings.state"), render: (_, row) => <DeliveryState delivery={row} moment={null} /> },
        { title: t("settings.tries"), width: 70, align: "right", dataIndex: "attempts" },
      ]}
    />
  );
}
