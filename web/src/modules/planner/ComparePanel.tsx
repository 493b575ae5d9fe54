import { Button, Skeleton, Space, Table } from "antd";
import { useT } from "../../app/i18n";
import { scaleOf } from "./bars";
import { Panel, phaseBars } from "./Charts";
import { answerDifferences, inputDifferences, ratioText, type Difference } from "./differences";
import { messageOf, said } from "./phrases";
import { shownWay, type Plan, type PlanView } from "./plan";
import { BarsLegend, StackedBars } from "./StackedBars";
import { useAnswer } from "./usePlanner";

interface Props {
  kept: Plan;
  plan: Plan;
  view: PlanView;
  swap: () => void;
  close: () => void;
}

/** The plan that is kept (A) beside the one that is being changed (B). */
export function ComparePanel({ kept, plan, view, swap, close }: Props) {
  const t = useT();
  const { view: first, error } = useAnswer(kept);
  const buttons = (
    <Space size={4}>
      <Button size="small" onClick={swap} data-testid="plan-swap">{t("planner.compare.swap")}</Button>
      <Button size="small" onClick={close} data-testid="plan-compare-close">{t("planner.compare.close")}</Button>
    </Space>
  );
  return (
    <Panel title={t("planner.compare.title")} note={t("planner.compare.why")} extra={buttons}>
      {error && <p className="schema-problem" role="alert">A: {said(messageOf(error), t)}</p>}
      {!first && !error && <Skeleton active paragraph={{ rows: 3 }} />}
      {first && <Sides a={{ plan: kept, view: first }} b={{ plan, view }} />}
    </Panel>
  );
}

interface Side {
  plan: Plan;
  view: PlanView;
}

function Sides({ a, b }: { a: Side; b: Side }) {
  const t = useT();
  const inputs = inputDifferences(a.plan, b.plan, t);
  const answers = answerDifferences(a.view, b.view, t);
  const barsOf = ({ view }: Side) => {
    const way = shownWay(view);
    return way ? phaseBars(way, view.usable_bytes, t) : [];
  };
  const [first, second] = [barsOf(a), barsOf(b)];
  const scale = scaleOf([...first, ...second], Math.max(a.view.device_bytes, b.view.device_bytes));
  return (
    <div className="plan-sides" data-testid="plan-compare">
      <Differences rows={[...inputs.map((row) => ({ ...row, key: `input-${row.key}`, isInput: true })), ...answers.map((row) => ({ ...row, isInput: false }))]} />
      <div className="plan-pair">
        {[{ name: "A", side: a, bars: first }, { name: "B", side: b, bars: second }].map(({ name, side, bars }) => (
          <div key={name}>
            <b>{name}</b>
            <StackedBars bars={bars} usable={side.view.usable_bytes} device={side.view.device_bytes} scale={scale} testId={`plan-phases-${name}`} label={`${name}: ${t("planner.phases")}`} />
            <BarsLegend bars={bars} usable={side.view.usable_bytes} device={side.view.device_bytes} />
          </div>
        ))}
      </div>
      {inputs.length === 0 && <p className="quiet">{t("planner.compare.same")}</p>}
    </div>
  );
}

type Shown = Difference & { isInput: boolean };

function Differences({ rows }: { rows: Shown[] }) {
  return (
    <Table<Shown>
      size="small"
      rowKey="key"
      dataSource={rows}
      pagination={false}
      scroll={{ x: 520 }}
      onRow={({ key }) => ({ "data-testid": `difference-${key}` }) as object}
      rowClassName={({ isInput }) => (isInput ? "plan-input-row" : "")}
      columns={[
        { title: "", dataIndex: "label", width: 150, rowScope: "row" },
        { title: "A", dataIndex: "a", align: "end" },
        { title: "B", dataIndex: "b", align: "end" },
        { title: "B : A", width: 80, align: "end", render: (_, { ratio }) => ratioText(ratio) },
      ]}
    />
  );
}
