import { Alert } from "antd";
import { useMemo } from "react";
import { percent } from "../../app/format";
import { useT } from "../../app/i18n";
import { BOUND, dataWait } from "./dataWait";
import type { Lines } from "./series";

/** How long the newest steps waited for their rows, and what to do where that is long. */
export function DataWait({ metrics, attempt }: { metrics: Lines; attempt: number }) {
  const t = useT();
  const wait = useMemo(() => dataWait(metrics, attempt), [metrics, attempt]);
  if (!wait) return null;
  const text = t("system.dataWait", { share: percent(wait.share), n: wait.numSteps });
  if (wait.share <= BOUND) return <p className="quiet" data-testid="data-wait">{text}</p>;
  return <Alert className="data-wait" type="warning" showIcon title={text} description={t("system.dataWaitHelp")} data-testid="data-wait" />;
}
