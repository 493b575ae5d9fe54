import { Button, Card } from "antd";
import { useState } from "react";
import { useT } from "../../app/i18n";
import { useTitle } from "../../app/title";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { ChannelDialog } from "./ChannelDialog";
import { ChannelTable } from "./ChannelTable";
import { DeliveryTable } from "./DeliveryTable";
import type { Channel } from "./channel";
import { useChannels, useDeliveries, useKinds, useRemove } from "./useChannels";

/** How people are told of alerts and ends of runs, and what they were told. */
export default function SettingsPage() {
  const t = useT();
  useTitle(t("nav.settings"));
  const channels = useChannels();
  const deliveries = useDeliveries();
  const kinds = useKinds();
  const { leaving, remove } = useRemove();
  const [open, setOpen] = useState<Channel | "new" | null>(null);
  const rows = (channels.data?.channels ?? []).filter((row) => !leaving.includes(row.name));
  const told = deliveries.data?.deliveries ?? [];
  const add = <Button type="primary" size="small" disabled={!kinds.data} onClick={() => setOpen("new")} data-testid="channel-add">{t("settings.add")}</Button>;
  return (
    <div className="page">
      <div className="page-title"><h1>{t("nav.settings")}</h1></div>
      {channels.error && !channels.data && <ErrorCard error={channels.error} retry={() => void channels.refetch()} />}
      <div className="stack">
        {channels.data && (
          <Card size="small" title={t("settings.channels")} extra={rows.length > 0 && add}>
            {rows.length === 0 ? (
              <EmptyState text={t("settings.empty")}>{add}</EmptyState>
            ) : (
              <div className="stack">
                <span className="quiet">{t("settings.why")}</span>
                <ChannelTable channels={rows} edit={setOpen} remove={remove} />
              </div>
            )}
          </Card>
        )}
        {deliveries.data && (
          <Card size="small" title={t("settings.deliveries")}>
            {told.length === 0 ? <span className="quiet">{t("settings.noDeliveries")}</span> : <DeliveryTable deliveries={told} />}
          </Card>
        )}
      </div>
      {open !== null && kinds.data && <ChannelDialog kinds={kinds.data.kinds} channel={open === "new" ? null : open} close={() => setOpen(null)} />}
    </div>
  );
}
