import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Form, Input, Modal, Select } from "antd";
import { useMemo, useState } from "react";
import { api, ApiError, take, type Schemas } from "../../api/client";
import { renew } from "../../api/renew";
import { useLanguage, useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import type { Schema, Values } from "../../ui/schema";
import { SchemaForm } from "../../ui/SchemaForm";
import { byField, DEFAULT_EVENTS, divided, EVENTS, shownParams, withStored, type Channel, type ChannelEvent, type MessageLanguage } from "./channel";

interface Props {
  kinds: Schemas["ChannelKindView"][];
  /** The one that is changed; none makes a new one. */
  channel: Channel | null;
  close: () => void;
}

/** Sets a channel up or changes it. The parameters of each kind are drawn from its own description. */
export function ChannelDialog({ kinds, channel, close }: Props) {
  const t = useT();
  const pageLanguage = useLanguage();
  const queries = useQueryClient();
  const schemaOf = (name: string) => (kinds.find((entry) => entry.name === name)?.params_schema ?? {}) as Schema;
  const [kind, setKind] = useState(channel?.kind ?? "slack");
  const [name, setName] = useState(channel?.name ?? "");
  const [events, setEvents] = useState<ChannelEvent[]>(channel ? [...channel.events] : DEFAULT_EVENTS);
  const [language, setLanguage] = useState<MessageLanguage>(channel?.language ?? pageLanguage);
  const [values, setValues] = useState<Values>(() => (channel ? shownParams(schemaOf(channel.kind), channel) : {}));
  const raw = schemaOf(kind);
  const keep = t("settings.keep");
  const schema = useMemo(() => (channel ? withStored(raw, channel, keep) : raw), [raw, channel, keep]);
  const save = useMutation({
    mutationFn: () => {
      const body = { ...divided(raw, values), events, language };
      if (channel) return take(api.PATCH("/api/channels/{name}", { params: { path: { name: channel.name } }, body }));
      return take(api.POST("/api/channels", { body: { ...body, name, kind } }));
    },
    onSuccess: async () => {
      await renew(queries, ["channels"]);
      close();
    },
  });
  const problems = useMemo(() => byField(save.error instanceof ApiError ? save.error.problems : []), [save.error]);
  const isPlaced = problems.length > 0 && problems.every(({ path }) => path in (raw.properties ?? {}));
  return (
    <Modal open title={channel ? t("settings.editOf", { name: channel.name }) : t("settings.add")} onCancel={close} onOk={() => save.mutate()} okText={t("settings.save")} okButtonProps={{ loading: save.isPending, disabled: !name }} width={600}>
      <Form size="small" colon={false} labelAlign="left" labelCol={{ flex: "186px" }}>
        {!channel && (
          <>
            <Form.Item label={t("settings.kind")} htmlFor="channel-kind" help={kinds.find((entry) => entry.name === kind)?.summary}>
              <Select
                id="channel-kind"
                data-testid="channel-kind"
                value={kind}
                onChange={(chosen: string) => {
                  setKind(chosen);
                  setValues({});
                  save.reset();
                }}
                options={kinds.map((entry) => ({ value: entry.name, label: entry.name }))}
              />
            </Form.Item>
            <Form.Item label={t("settings.name")} htmlFor="channel-name" help={t("settings.nameWhy")} required>
              <Input id="channel-name" data-testid="channel-name" value={name} onChange={(event) => setName(event.target.value.trim())} />
            </Form.Item>
          </>
        )}
        <Form.Item label={t("settings.tells")} htmlFor="channel-events">
          <Select id="channel-events" mode="multiple" value={events} onChange={(chosen: ChannelEvent[]) => setEvents(EVENTS.filter((event) => chosen.includes(event)))} options={EVENTS.map((event) => ({ value: event, label: t(`event.${event}`) }))} />
        </Form.Item>
        <Form.Item label={t("settings.language")} htmlFor="channel-language">
          <Select id="channel-language" value={language} onChange={setLanguage} options={[{ value: "en", label: "English" }, { value: "zh", label: "中文" }]} />
        </Form.Item>
        <SchemaForm schema={schema} values={values} change={setValues} problems={problems} />
        {save.error && !isPlaced && <ErrorCard error={save.error} />}
      </Form>
    </Modal>
  );
}
