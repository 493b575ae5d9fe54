import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Input, InputNumber, Modal, Space, Tag } from "antd";
import { useState } from "react";
import { api, take, type JobDetail, type Verb } from "../../api/client";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";

/** Buttons for what can be done in this state, no others, and the wishes that are still open. */
export function VerbButtons({ job }: { job: JobDetail }) {
  const t = useT();
  const { notification } = App.useApp();
  const queries = useQueryClient();
  const [isSetting, setSetting] = useState(false);
  const ask = useMutation({
    mutationFn: ({ verb, values }: { verb: Verb; values?: Record<string, number> }) =>
      take(api.POST("/api/jobs/{job_id}/{verb}", { params: { path: { job_id: job.id, verb } }, body: { values: values ?? {} } })),
    onSuccess: (row) => queries.setQueryData<JobDetail>(["job", job.id], (before) => (before ? { ...before, ...row } : before)),
    onError: (error) => notification.error({ title: t("error.title"), description: error.message }),
  });
  return (
    <Space wrap>
      {job.requests.map((wish) => (
        <Tag key={wish.id} color="gold">{t("verb.requested", { verb: t(`verb.${wish.verb}`) })}</Tag>
      ))}
      {job.verbs.map((verb) => (
        <Button
          key={verb}
          data-testid={`verb-${verb}`}
          loading={ask.isPending && ask.variables.verb === verb}
          danger={verb === "cancel"}
          onClick={() => (verb === "set" ? setSetting(true) : ask.mutate({ verb }))}
        >
          {t(`verb.${verb}`)}
        </Button>
      ))}
      <SetDialog isOpen={isSetting} close={() => setSetting(false)} apply={(values) => ask.mutate({ verb: "set", values })} error={ask.error} />
    </Space>
  );
}

interface DialogProps {
  isOpen: boolean;
  close: () => void;
  apply: (values: Record<string, number>) => void;
  error: unknown;
}

function SetDialog({ isOpen, close, apply, error }: DialogProps) {
  const t = useT();
  const [name, setName] = useState("learning_rate");
  const [value, setValue] = useState<number | null>(null);
  const submit = () => {
    if (value !== null) apply({ [name]: value });
    close();
  };
  return (
    <Modal open={isOpen} onCancel={close} onOk={submit} okText={t("set.apply")} okButtonProps={{ disabled: value === null || !name }} title={t("verb.set")}>
      {error ? <ErrorCard error={error} /> : null}
      <Space>
        <Input aria-label={t("set.name")} value={name} onChange={(event) => setName(event.target.value)} />
        <InputNumber aria-label={t("set.value")} placeholder={t("set.value")} value={value} onChange={setValue} style={{ width: 160 }} />
      </Space>
    </Modal>
  );
}
