import { Alert, Skeleton } from "antd";
import { useEffect, useRef, useState } from "react";
import { useParams } from "react-router";
import { api, ApiError, take } from "../../api/client";
import { GuestContext } from "../../app/guest";
import { useT } from "../../app/i18n";
import RunPage from "./RunPage";
import { useRun } from "./useRun";

/** One run, read through a link. The key of the link never stays in the address. */
export default function SharedPage() {
  const job = Number(useParams().job);
  const [phase, setPhase] = useState<"entering" | "in" | "refused">("entering");
  const isUsed = useRef(false);
  useEffect(() => {
    if (isUsed.current) return;
    isUsed.current = true;
    const key = new URLSearchParams(window.location.hash.slice(1)).get("key");
    if (!key) {
      setPhase("in");
      return;
    }
    window.history.replaceState(null, "", window.location.pathname + window.location.search);
    take(api.POST("/api/guests", { body: { job_id: job, key } }))
      .then(() => setPhase("in"))
      .catch(() => setPhase("refused"));
  }, [job]);
  if (phase === "entering") return <div className="page"><Skeleton active /></div>;
  return phase === "in" ? <Guest job={job} /> : <Ended />;
}

function Guest({ job }: { job: number }) {
  const run = useRun(job);
  if (run.error instanceof ApiError && run.error.status === 401) return <Ended />;
  return (
    <GuestContext value={true}>
      <RunPage />
    </GuestContext>
  );
}

function Ended() {
  const t = useT();
  return <div className="page"><Alert type="warning" showIcon title={t("share.ended")} description={t("share.endedWhy")} data-testid="share-ended" /></div>;
}
