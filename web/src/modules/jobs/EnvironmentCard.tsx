import { Card, Collapse } from "antd";
import type { JobDetail } from "../../api/client";
import { yaml } from "../../app/format";
import { useT } from "../../app/i18n";

const ELSEWHERE = ["packages", "code", "version"];

/** Packages and hardware of the newest attempt. */
export function EnvironmentCard({ provenance }: { provenance: JobDetail["provenance"] }) {
  const t = useT();
  if (!provenance) return <Card size="small" title={t("overview.environment")}>{t("overview.notYet")}</Card>;
  const packages = (provenance.packages ?? {}) as Record<string, string>;
  const rest = Object.fromEntries(Object.entries(provenance).filter(([name]) => !ELSEWHERE.includes(name)));
  return (
    <Card size="small" title={t("overview.environment")}>
      <pre>{yaml(rest).trim()}</pre>
      <Collapse
        size="small"
        ghost
        items={[{ key: "packages", label: t("overview.packages", { n: Object.keys(packages).length }), children: <pre>{yaml(packages).trim()}</pre> }]}
      />
    </Card>
  );
}
