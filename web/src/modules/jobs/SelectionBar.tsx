import { Button, Input, Popover, Space } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import type { Job } from "../../api/client";
import { useT } from "../../app/i18n";
import { useEdit } from "./useEdit";
import type { ChangeView, View } from "./useView";

const ENDED = ["completed", "failed", "cancelled"];
const MOST_COMPARED = 20;

interface Props {
  jobs: Job[];
  view: View;
  change: ChangeView;
}

/** What can be done with the runs that are picked. */
export function SelectionBar({ jobs, view, change }: Props) {
  const t = useT();
  const edit = useEdit();
  const ids = view.picked;
  const chosen = jobs.filter((job) => ids.includes(job.id));
  const one = chosen.length === 1 ? chosen[0] : undefined;
  const isArchivable = chosen.length > 0 && chosen.every((job) => ENDED.includes(job.state));
  const arePinned = chosen.length > 0 && chosen.every((job) => job.is_pinned);
  const archive = (is_archived: boolean) => {
    const text = t(is_archived ? "edit.archived" : "edit.restored", { n: ids.length });
    edit.mutate({ ids, edit: { is_archived }, undo: { edit: { is_archived: !is_archived }, text } });
    change({ picked: [] });
  };
  return (
    <Space className="bar selection" wrap data-testid="selection">
      <b>{t("edit.picked", { n: ids.length })}</b>
      <Link to={`/compare?runs=${ids.join(",")}`}>
        <Button type="primary" disabled={ids.length < 2 || ids.length > MOST_COMPARED} data-testid="compare">{t("edit.compare")}</Button>
      </Link>
      {one && (
        <Button data-testid="set-baseline" onClick={() => change({ baseline: view.baseline === one.id ? null : one.id, picked: [] })}>
          {t(view.baseline === one.id ? "edit.noBaseline" : "edit.baseline")}
        </Button>
      )}
      <Button onClick={() => edit.mutate({ ids, edit: { is_pinned: !arePinned } })} data-testid="pin">{t(arePinned ? "edit.unpin" : "edit.pin")}</Button>
      <TagButton add={(tag) => edit.mutate({ ids, edit: { add_tags: [tag] }, undo: { edit: { remove_tags: [tag] }, text: t("edit.tagged", { tag }) } })} />
      {view.isArchive ? (
        <Button onClick={() => archive(false)} data-testid="restore">{t("edit.restore")}</Button>
      ) : (
        <Button disabled={!isArchivable} title={isArchivable ? undefined : t("edit.onlyEnded")} onClick={() => archive(true)} data-testid="archive">{t("edit.archive")}</Button>
      )}
      <Button type="text" onClick={() => change({ picked: [] })}>{t("edit.clear")}</Button>
    </Space>
  );
}

function TagButton({ add }: { add: (tag: string) => void }) {
  const t = useT();
  const [tag, setTag] = useState("");
  const [isOpen, setOpen] = useState(false);
  const submit = () => {
    if (!tag) return;
    add(tag);
    setTag("");
    setOpen(false);
  };
  return (
    <Popover
      open={isOpen}
      onOpenChange={setOpen}
      trigger="click"
      content={
        <Space.Compact>
          <Input autoFocus aria-label={t("edit.tag")} data-testid="tag-name" value={tag} maxLength={40} onChange={(event) => setTag(event.target.value.replace(/[\s,"]/g, ""))} onPressEnter={submit} />
          <Button onClick={submit} disabled={!tag}>{t("edit.addTag")}</Button>
        </Space.Compact>
      }
    >
      <Button data-testid="tag">{t("edit.tag")}</Button>
    </Popover>
  );
}
