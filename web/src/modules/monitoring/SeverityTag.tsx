import { Tag } from "antd";
import { useT } from "../../app/i18n";
import type { Rule } from "./alerts";

/** How grave an alert is: red only for what failed, amber for what needs a person. */
export function SeverityTag({ severity }: { severity: Rule["severity"] }) {
  const t = useT();
  return <Tag variant="outlined" className="tone" data-tone={severity}>{t(`alerts.severity.${severity}`)}</Tag>;
}
