import { Alert } from "antd";
import { useEffect, useState } from "react";
import { onLiveStatus, type LiveStatus } from "../api/live";
import { clock } from "./format";
import { useLanguage, useT } from "./i18n";

/** Says since when the page is out of contact, quietly, and goes away by itself. */
export function StaleBanner() {
  const t = useT();
  const language = useLanguage();
  const [status, setStatus] = useState<LiveStatus>({ isConnected: true, staleSince: null });
  useEffect(() => onLiveStatus(setStatus), []);
  if (status.staleSince === null) return null;
  return (
    <div data-testid="stale-banner" role="status">
      <Alert banner type="warning" title={t("stale", { time: clock(status.staleSince, language) })} />
    </div>
  );
}
