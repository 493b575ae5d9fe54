import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Button, Card, Input, Space } from "antd";
import { useState } from "react";
import { api, take, type JobDetail } from "../../api/client";
import { number } from "../../app/format";
import { useIsGuest } from "../../app/guest";
import { useT } from "../../app/i18n";
import { RelativeTime } from "../../ui/RelativeTime";
import { personText } from "../monitoring/alerts";
import { inEffect, isOpen, newestWish, readNumber, type Wish } from "./settings";

/** The settings that can be changed while the run trains: what is in effect, what was asked for, what came of it. */
export function LiveSettings({ job, controls }: { job: JobDetail; controls: NonNullable<JobDetail["controls"]> }) {
  const t = useT();
  return (
    <Card size="small" title={t("live.title")} extra={<span className="quiet">{t("live.why")}</span>} data-testid="live-settings">
      <div className="live-settings">
        {Object.keys(controls).map((name) => <Setting key={name} job={job} name={name} />)}
      </div>
    </Card>
  );
}

function Setting({ job, name }: { job: JobDetail; name: string }) {
  const t = useT();
  const isGuest = useIsGuest();
  const [isEditing, setEditing] = useState(false);
  const value = inEffect(job, name);
  const wish = newestWish(job, name);
  const isAsked = wish !== null && isOpen(wish);
  return (
    <div className="live-setting" data-testid={`live-${name}`}>
      <code>{name}</code>
      <span>
        {isAsked && <b className="requested">{t("live.requested", { value: number(wish.values[name]) })} · </b>}
        {isAsked ? t("live.inEffect", { value: number(value) }) : <b data-testid={`live-${name}-value`}>{number(value)}</b>}
      </span>
      {!isGuest && !isEditing && <Button size="small" type="text" onClick={() => setEditing(true)} aria-label={t("live.change", { name })} data-testid={`live-${name}-edit`}>{t("live.edit")}</Button>}
      {isEditing && <Editor job={job} name={name} now={number(value)} close={() => setEditing(false)} />}
      {wish && !isAsked && !isEditing && <Answer wish={wish} name={name} />}
    </div>
  );
}

function Answer({ wish, name }: { wish: Wish; name: string }) {
  const t = useT();
  const value = number(wish.values[name]);
  const isRefused = wish.outcome === "rejected";
  return (
    <span className={isRefused ? "live-answer schema-problem" : "live-answer quiet"} data-testid={`live-${name}-answer`} data-outcome={wish.outcome}>
      {isRefused ? t("live.refused", { value, message: wish.message }) : t("live.applied", { value, who: personText(wish.by, t) })} <RelativeTime moment={wish.requested_at} />
    </span>
  );
}

interface EditorProps {
  job: JobDetail;
  name: string;
  now: string;
  close: () => void;
}

function Editor({ job, name, now, close }: EditorProps) {
  const t = useT();
  const queries = useQueryClient();
  const [text, setText] = useState("");
  const value = readNumber(text);
  const ask = useMutation({
    mutationFn: (wanted: number) => take(api.POST("/api/jobs/{job_id}/{verb}", { params: { path: { job_id: job.id, verb: "set" } }, body: { values: { [name]: wanted } } })),
    onSuccess: (row) => {
      queries.setQueryData<JobDetail>(["job", job.id], (before) => (before ? { ...before, ...row } : before));
      close();
    },
  });
  const submit = () => value !== null && ask.mutate(value);
  const isWrong = text.trim() !== "" && value === null;
  const problem = isWrong ? t("live.noNumber") : ask.error ? ask.error.message || t("error.unreachable") : "";
  const id = `live-${name}-problem`;
  return (
    <form className="live-editor" onSubmit={(event) => { event.preventDefault(); submit(); }} onKeyDown={(event) => event.key === "Escape" && close()}>
      <Space.Compact>
        <Input
          size="small"
          autoFocus
          value={text}
          placeholder={now}
          inputMode="decimal"
          status={isWrong ? "error" : undefined}
          aria-label={t("live.newValue", { name })}
          aria-invalid={isWrong}
          aria-describedby={id}
          data-testid={`live-${name}-input`}
          onChange={(event) => setText(event.target.value)}
        />
        <Button size="small" type="primary" htmlType="submit" disabled={value === null} loading={ask.isPending} data-testid={`live-${name}-apply`}>{t("live.apply")}</Button>
        <Button size="small" onClick={close}>{t("live.leave")}</Button>
      </Space.Compact>
      <span id={id} role="alert" className="schema-problem" data-testid={id}>{problem}</span>
    </form>
  );
}
