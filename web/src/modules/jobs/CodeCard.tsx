import { Card, Collapse, Typography } from "antd";
import type { JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";

/** The code from which the job was submitted, with what was not committed. */
export function CodeCard({ code }: { code: JobDetail["code"] }) {
  const t = useT();
  if (!code?.commit) return <Card size="small" title={t("overview.code")}>{t("overview.noCode")}</Card>;
  const commit = String(code.commit);
  const diff = typeof code.diff === "string" ? code.diff : "";
  return (
    <Card size="small" title={t("overview.code")}>
      <Typography.Text copyable={{ text: commit }}><code>{commit.slice(0, 12)}</code></Typography.Text>{" "}
      {typeof code.branch === "string" && <code>{code.branch}</code>} {code.is_dirty ? t("overview.dirty") : t("overview.clean")}
      {diff && <Collapse size="small" ghost items={[{ key: "diff", label: t("overview.diff"), children: <Diff text={diff} /> }]} />}
    </Card>
  );
}

function Diff({ text }: { text: string }) {
  return (
    <pre className="diff">
      {text.split("\n").map((line, index) => (
        <div key={index} data-change={line.startsWith("+++") || line.startsWith("---") ? "file" : line.startsWith("@@") ? "place" : line[0]}>{line || " "}</div>
      ))}
    </pre>
  );
}
