import { Button, Space, Switch, Table } from "antd";
import { useT } from "../../app/i18n";
import { DeliveryState } from "./DeliveryState";
import type { Channel } from "./channel";
import { useSwitch, useTrial } from "./useChannels";

interface Props {
  channels: Channel[];
  edit: (channel: Channel) => void;
  remove: (name: string) => void;
}

/** The channels, how the last delivery of each went, and what can be done with it. */
export function ChannelTable({ channels, edit, remove }: Props) {
  const t = useT();
  const turn = useSwitch();
  return (
    <Table
      size="small"
      rowKey="name"
      dataSource={channels}
      pagination={false}
      tableLayout="fixed"
      scroll={{ x: 900 }}
      columns={[
        { title: t("settings.name"), width: 170, render: (_, row) => <span data-testid={`channel-${row.name}`}><b>{row.name}</b> <span className="quiet">{row.kind}</span></span> },
        { title: t("settings.tells"), width: 220, render: (_, row) => row.events.map((event) => t(`event.${event}`)).join(", ") || "–" },
        { title: t("settings.last"), render: (_, row) => <Last channel={row} /> },
        {
          title: t("settings.on"),
          width: 64,
          render: (_, row) => <Switch size="small" checked={row.is_enabled} onChange={(isOn) => turn.mutate({ name: row.name, isOn })} aria-label={t("settings.onOf", { name: row.name })} />,
        },
        {
          width: 330,
          render: (_, row) => (
            <Actions name={row.name}>
              <Button size="small" type="text" onClick={() => edit(row)} data-testid={`edit-${row.name}`}>{t("settings.edit")}</Button>
              <Button size="small" type="text" onClick={() => remove(row.name)} data-testid={`remove-${row.name}`}>{t("settings.remove")}</Button>
            </Actions>
          ),
        },
      ]}
    />
  );
}

function Last({ channel }: { channel: Channel }) {
  const t = useT();
  return (
    <>
      {channel.last ? <DeliveryState delivery={channel.last} moment={channel.last.ended_at} /> : <span className="quiet">{t("settings.never")}</span>}
      {channel.num_pending > 0 && <span className="quiet"> · {t("settings.waiting", { n: channel.num_pending })}</span>}
    </>
  );
}

/** A test message with what really came of it, and the other buttons. */
function Actions({ name, children }: { name: string; children: React.ReactNode }) {
  const t = useT();
  const trial = useTrial();
  const failure = trial.error?.message ?? (trial.data && !trial.data.is_sent ? trial.data.answer : undefined);
  return (
    <>
      <Space size={4}>
        <Button size="small" loading={trial.isPending} onClick={() => trial.mutate(name)} data-testid={`test-${name}`}>{t("settings.test")}</Button>
        {children}
      </Space>
      <div role="status" data-testid={`outcome-${name}`} className={failure ? "schema-problem" : "quiet"}>
        {failure !== undefined && t("settings.notSent", { answer: failure || t("error.unreachable") })}
        {failure === undefined && trial.data && t("settings.sent", { seconds: trial.data.seconds.toFixed(1) })}
      </div>
    </>
  );
}
