import { useQuery } from "@tanstack/react-query";
import { Button, Modal, Skeleton, Tabs, Typography } from "antd";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { saveText } from "../../ui/saveText";
import { exportPlan, type ExportFormat } from "./exporting";
import { said } from "./phrases";
import type { Plan } from "./plan";

/** A plan as the files of a program, to read, copy and save. */
export function ExportDialog({ plan, format, close }: { plan: Plan; format: ExportFormat; close: () => void }) {
  const t = useT();
  const found = useQuery({ queryKey: ["plan-export", format, plan], queryFn: () => exportPlan(plan, format), retry: false });
  const files = Object.entries(found.data?.files ?? {});
  return (
    <Modal open title={t(`planner.export.${format}`)} onCancel={close} footer={null} width={760}>
      {found.isLoading && <Skeleton active />}
      {found.error && <ErrorCard error={found.error} retry={() => void found.refetch()} />}
      {found.data && found.data.notes.length > 0 && <ul className="plan-notes">{found.data.notes.map((note) => <li key={note}>{said(note, t)}</li>)}</ul>}
      {files.length > 0 && <Tabs size="small" items={files.map(([name, text]) => ({ key: name, label: name, children: <File name={name} text={text} /> }))} />}
    </Modal>
  );
}

function File({ name, text }: { name: string; text: string }) {
  const t = useT();
  return (
    <>
      <pre className="log launch-well plan-file" data-testid="export-text" tabIndex={0}>{text}</pre>
      <div className="plan-file-line">
        <Typography.Text copyable={{ text }}>{t("planner.copy")}</Typography.Text>
        <Button size="small" data-testid="export-save" onClick={() => saveText(name, text)}>{t("planner.save", { name })}</Button>
      </div>
    </>
  );
}
