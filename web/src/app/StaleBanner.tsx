import { useQueryClient } from "@tanstack/react-query";
import { Alert } from "antd";
import { useEffect, useState } from "react";
import { contact } from "../api/contact";
import { clock } from "./format";
import { useLanguage, useT } from "./i18n";

/** Says since when the page is out of contact, quietly, and goes away by itself; then all that is shown is read again. */
export function StaleBanner() {
  const t = useT();
  const language = useLanguage();
  const queries = useQueryClient();
  const [staleSince, setStaleSince] = useState<number | null>(null);
  useEffect(() => {
    let wasStale = false;
    return contact.follow((now) => {
      setStaleSince(now.staleSince);
      // Series go on from their cursor by themselves, unless they never came.
      if (wasStale && now.staleSince === null) {
        void queries.invalidateQueries({ predicate: (query) => query.queryKey[0] !== "series" || query.state.status === "error" });
      }
      wasStale = now.staleSince !== null;
    });
  }, [queries]);
  if (staleSince === null) return null;
  return (
    <div data-testid="stale-banner" role="status">
      <Alert banner type="warning" title={t("stale", { time: clock(staleSince, language) })} />
    </div>
  );
}
