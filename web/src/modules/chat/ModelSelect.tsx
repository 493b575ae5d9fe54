import { AutoComplete, Tag } from "antd";
import { useState } from "react";
import type { Schemas } from "../../api/client";
import { useT } from "../../app/i18n";

interface Props {
  choices: Schemas["ChatChoices"] | undefined;
  value: string;
  choose: (ref: string) => void;
  label: string;
  testId: string;
}

/** A built-in model, a checkpoint, or any hub id as text. */
export function ModelSelect({ choices, value, choose, label, testId }: Props) {
  const t = useT();
  const [draft, setDraft] = useState<string | null>(null);
  const wanted = (draft ?? "").toLowerCase();
  const loaded = new Set(choices?.loaded);
  const option = (ref: string, words: string) => ({
    value: ref,
    words: `${ref} ${words}`.toLowerCase(),
    label: (
      <span className="cell-line">
        <code>{ref}</code> <span className="quiet cut">{words}</span> {loaded.has(ref) && <Tag>{t("chat.loaded")}</Tag>}
      </span>
    ),
  });
  const groups = [
    { label: t("chat.checkpoints"), options: (choices?.checkpoints ?? []).map((row) => option(row.ref, t("chat.checkpointOf", { name: row.job_name, step: row.step }))) },
    { label: t("chat.builtin"), options: (choices?.builtin ?? []).map((row) => option(row.ref, row.summary)) },
  ];
  const found = groups.map((group) => ({ ...group, options: group.options.filter((row) => row.words.includes(wanted)) }));
  const commit = (ref: string) => {
    setDraft(null);
    if (ref.trim() && ref.trim() !== value) choose(ref.trim());
  };
  return (
    <AutoComplete
      aria-label={label}
      data-testid={testId}
      className="chat-model"
      placeholder={t("chat.choose")}
      value={draft ?? value}
      options={found.filter((group) => group.options.length > 0)}
      popupMatchSelectWidth={520}
      onChange={(text: string) => setDraft(text)}
      onSelect={(ref: string) => commit(ref)}
      onBlur={() => commit(draft ?? "")}
      onInputKeyDown={(event) => {
        if (event.key === "Enter" && found.every((group) => group.options.length === 0)) commit(draft ?? "");
      }}
    />
  );
}
