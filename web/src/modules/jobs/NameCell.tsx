import { EditOutlined, PushpinFilled } from "@ant-design/icons";
import { Input, Tag } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import type { Job } from "../../api/client";
import { useT } from "../../app/i18n";
import { RunDot } from "../../ui/RunDot";
import { useEdit } from "./useEdit";

/** The name in the run's colour; the pencil renames it in place. */
export function NameCell({ job }: { job: Job }) {
  const t = useT();
  const [isRenaming, setRenaming] = useState(false);
  if (isRenaming) return <NameField job={job} done={() => setRenaming(false)} />;
  const title = [job.name, job.tags.length > 0 ? `[${job.tags.join(", ")}]` : "", job.notes].filter(Boolean).join("\n");
  return (
    <span className="cell-line" title={title}>
      <RunDot jobId={job.id} />
      <Link to={`/runs/${job.id}`}>{job.name}</Link>
      <Marks job={job} />
      <button type="button" className="on-hover pencil" aria-label={t("edit.rename", { name: job.name })} onClick={() => setRenaming(true)}><EditOutlined /></button>
    </span>
  );
}

function NameField({ job, done }: { job: Job; done: () => void }) {
  const t = useT();
  const edit = useEdit();
  const [name, setName] = useState(job.name);
  const keep = () => {
    const next = name.trim();
    if (next && next !== job.name) {
      edit.mutate({ ids: [job.id], edit: { name: next }, undo: { edit: { name: job.name }, text: t("edit.renamed", { name: next }) } });
    }
    done();
  };
  return (
    <Input
      size="small"
      autoFocus
      maxLength={80}
      aria-label={t("edit.rename", { name: job.name })}
      data-testid="rename"
      value={name}
      onChange={(event) => setName(event.target.value)}
      onPressEnter={keep}
      onBlur={keep}
      onKeyDown={(event) => event.key === "Escape" && done()}
    />
  );
}

/** What people have written on a run: pin and tags. */
function Marks({ job }: { job: Job }) {
  return (
    <>
      {job.is_pinned && <PushpinFilled className="pin" aria-hidden />}
      {job.tags.length > 0 && <span className="cut">{job.tags.map((tag) => <Tag key={tag} variant="filled">{tag}</Tag>)}</span>}
    </>
  );
}
