import { PushpinOutlined } from "@ant-design/icons";
import { Button, Table } from "antd";
import { number, percent } from "../../app/format";
import { useT } from "../../app/i18n";
import { said } from "./phrases";
import type { PlanView, WayView } from "./plan";
import { ENGINES, gib, seconds, wayWords } from "./words";

/** The ways that lost, and why. Choosing one fixes all that is searched to it. */
export function OthersTable({ view, pin }: { view: PlanView; pin: (way: WayView) => void }) {
  const t = useT();
  const rows = view.others.map((way, index) => ({ way, index }));
  return (
    <Table
      size="small"
      className="plan-others"
      rowKey="index"
      dataSource={rows}
      pagination={false}
      scroll={{ x: 700, y: 420 }}
      onRow={({ way }) => ({ onClick: () => pin(way), "data-testid": "plan-other" }) as object}
      rowClassName="plan-other"
      locale={{ emptyText: t("planner.noOthers") }}
      columns={[
        {
          title: "",
          width: 36,
          render: (_, { way }) => (
            <Button
              type="text"
              size="small"
              icon={<PushpinOutlined />}
              aria-label={t("planner.pin", { way: wayWords(way, t) })}
              title={t("planner.pinShort")}
              onClick={(event) => {
                event.stopPropagation();
                pin(way);
              }}
            />
          ),
        },
        { title: t("planner.col.way"), width: 216, render: (_, { way }) => wayWords(way, t) },
        { title: t("planner.col.engine"), width: 96, render: (_, { way }) => ENGINES[way.engine] },
        { title: t("planner.col.peak"), width: 106, align: "end", render: (_, { way }) => <span data-fits={way.fits} className="plan-bar-value" title={percent(way.share_of_device)}>{gib(way.peak_bytes)}</span>, sorter: (a, b) => a.way.peak_bytes - b.way.peak_bytes },
        { title: t("planner.col.step"), width: 96, align: "end", render: (_, { way }) => (way.fits ? <span title={t("planner.speedIs", { n: number(way.tokens_per_second) })}>{seconds(way.seconds_per_step)}</span> : "\u2013"), sorter: (a, b) => a.way.seconds_per_step - b.way.seconds_per_step },
        { title: t("planner.col.why"), render: (_, { way }) => said(way.why_not, t) },
      ]}
    />
  );
}
