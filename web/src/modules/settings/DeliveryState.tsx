import { Badge, Tooltip } from "antd";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import type { Delivery } from "./channel";

const STATUS = { pending: "processing", sent: "success", failed: "error" } as const;

/** Whether something was told, since when, and why not. */
export function DeliveryState({ delivery, moment }: { delivery: Delivery; moment: string | null }) {
  const t = useT();
  return (
    <Tooltip title={delivery.error || undefined}>
      <span className="cell-line" data-state={delivery.state}>
        <Badge status={STATUS[delivery.state]} text={t(`delivery.${delivery.state}`)} />
        {moment && <span className="quiet"><RelativeTime moment={moment} /></span>}
        {delivery.error && <span className="cut">{delivery.error}</span>}
      </span>
    </Tooltip>
  );
}
