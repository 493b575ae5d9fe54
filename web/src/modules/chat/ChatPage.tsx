import { ClearOutlined, DownloadOutlined, SplitCellsOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Button, Space } from "antd";
import { useEffect, useState, useSyncExternalStore } from "react";
import { api, take, type Schemas } from "../../api/client";
import { useT } from "../../app/i18n";
import { useView } from "../../app/useView";
import { ErrorCard } from "../../ui/ErrorCard";
import { saveText } from "../../ui/saveText";
import { Composer } from "./Composer";
import { SettingsBar } from "./SettingsBar";
import { Side } from "./Side";
import { TALKS, transcript, type Settings } from "./talk";

const SIDES = ["a", "b"] as const;
/** Kept beside the conversations while other pages are open. */
const kept: { settings: Settings; models: { a: string; b: string } } = { settings: { system: "", sampling: {} }, models: { a: "", b: "" } };

/** One model, or two that are told the same. Which ones is in the address; what was said is in memory. */
export default function ChatPage() {
  const t = useT();
  const [view, change] = useView();
  const [settings, setSettings] = useState(kept.settings);
  const choices = useQuery({ queryKey: ["chat-choices"], queryFn: () => take(api.GET("/api/chat/choices")) });
  const states = { a: useSyncExternalStore(TALKS.a.follow, TALKS.a.now), b: useSyncExternalStore(TALKS.b.follow, TALKS.b.now) };
  const isBusy = states.a.phase !== "idle" || states.b.phase !== "idle";
  const refetch = choices.refetch;
  useEffect(() => {
    if (!isBusy) void refetch(); // which models are loaded has changed
  }, [isBusy, refetch]);
  const isCompared = view.has("b");
  const shown = SIDES.filter((side) => side === "a" || isCompared);
  const models = { a: view.get("a") ?? "", b: view.get("b") ?? "" };
  useEffect(() => {
    if (models.a) kept.models = { a: models.a, b: models.b };
    else if (kept.models.a) change(kept.models);
  }, [models.a, models.b, change]);
  const isReady = shown.every((side) => models[side] !== "");
  const isEmpty = shown.every((side) => states[side].exchanges.length === 0);
  const set = (after: Settings) => {
    kept.settings = after;
    setSettings(after);
  };
  const send = (text: string) => shown.forEach((side) => void TALKS[side].say(models[side], text, settings));
  const save = () => saveText(`chat-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.jsonl`, transcript(shown.map((side) => ({ model: models[side], exchanges: states[side].exchanges })), settings));
  const single = () => {
    TALKS.b.reset();
    change({ b: null });
  };
  return (
    <div className="chat">
      <div className="page-title">
        <h1>{t("chat.title")}</h1>
        <Space wrap>
          {!isCompared && <Button icon={<SplitCellsOutlined />} disabled={!models.a} onClick={() => change({ b: other(choices.data, models.a) })} data-testid="compare">{t("chat.compare")}</Button>}
          <Button icon={<DownloadOutlined />} disabled={isEmpty || isBusy} onClick={save} data-testid="save">{t("chat.save")}</Button>
          <Button icon={<ClearOutlined />} disabled={isEmpty} onClick={() => shown.forEach((side) => TALKS[side].reset())} data-testid="reset">{t("chat.reset")}</Button>
        </Space>
      </div>
      {choices.error && !choices.data && <ErrorCard error={choices.error} retry={() => void refetch()} />}
      <SettingsBar settings={settings} defaults={choices.data?.sampling} change={set} />
      <div className="chat-sides">
        {shown.map((side) => (
          <Side
            key={side}
            name={side}
            talk={TALKS[side]}
            model={models[side]}
            choices={choices.data}
            choose={(ref) => change({ [side]: ref })}
            again={() => void TALKS[side].again(settings)}
            close={side === "b" ? single : undefined}
          />
        ))}
      </div>
      <Composer isBusy={isBusy} isReady={isReady} send={send} stop={() => SIDES.forEach((side) => TALKS[side].stop())} />
    </div>
  );
}

/** Whom to compare with at first: another checkpoint of the same run, else the first built-in model that it is not. */
function other(choices: Schemas["ChatChoices"] | undefined, ref: string): string {
  const run = ref.split("/")[0];
  const refs = [...(choices?.checkpoints ?? []).filter((row) => row.ref.startsWith(`${run}/`)), ...(choices?.builtin ?? [])].map((row) => row.ref);
  return refs.find((one) => one !== ref) ?? ref;
}
