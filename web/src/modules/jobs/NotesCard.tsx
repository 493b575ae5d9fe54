import { Card, Input } from "antd";
import { useState } from "react";
import type { JobDetail } from "../../api/client";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { useEdit } from "./useEdit";

/** What somebody wants to remember about a run; kept when the field is left. */
export function NotesCard({ job }: { job: JobDetail }) {
  const t = useT();
  const isGuest = useIsGuest();
  const edit = useEdit();
  const [text, setText] = useState<string | null>(null);
  const keep = () => {
    if (text !== null && text !== job.notes) edit.mutate({ ids: [job.id], edit: { notes: text } });
    setText(null);
  };
  return (
    <Card size="small" title={t("notes.title")}>
      <Input.TextArea
        variant="borderless"
        readOnly={isGuest}
        autoSize={{ minRows: 1, maxRows: 12 }}
        maxLength={20_000}
        aria-label={t("notes.title")}
        placeholder={t("notes.empty")}
        data-testid="notes"
        value={text ?? job.notes}
        onChange={(event) => setText(event.target.value)}
        onBlur={keep}
      />
    </Card>
  );
}
