import { CloseOutlined } from "@ant-design/icons";
import { Button } from "antd";
import { useSyncExternalStore } from "react";
import type { Schemas } from "../../api/client";
import { number } from "../../app/format";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { ErrorCard } from "../../ui/ErrorCard";
import { ModelSelect } from "./ModelSelect";
import type { Exchange, Talk, TalkState } from "./talk";
import { useEnd } from "./useEnd";

interface Props {
  name: "a" | "b";
  talk: Talk;
  model: string;
  choices: Schemas["ChatChoices"] | undefined;
  choose: (ref: string) => void;
  again: () => void;
  close?: () => void;
}

/** One model and what was said with it. */
export function Side({ name, talk, model, choices, choose, again, close }: Props) {
  const t = useT();
  const state = useSyncExternalStore(talk.follow, talk.now);
  const end = useEnd(state.exchanges.length);
  return (
    <section className="chat-side" aria-label={model || t(`chat.side.${name}`)} data-testid={`side-${name}`}>
      <div className="chat-head">
        <ModelSelect choices={choices} value={model} choose={choose} label={t(`chat.side.${name}`)} testId={`model-${name}`} />
        {close && <Button type="text" icon={<CloseOutlined />} aria-label={t("chat.single")} title={t("chat.single")} onClick={close} />}
      </div>
      <div ref={end.box} onScroll={end.follow} className="chat-log" tabIndex={0} role="log" aria-label={t("chat.conversation")} aria-busy={state.phase !== "idle"} data-testid={`log-${name}`}>
        <div ref={end.content}>
          {state.exchanges.length === 0 && <EmptyState text={t(model ? "chat.empty" : "chat.noModel")} />}
          {state.exchanges.map((exchange, index) => (
            <Turn key={index} exchange={exchange} phase={index === state.exchanges.length - 1 ? state.phase : "idle"} again={index === state.exchanges.length - 1 ? again : undefined} />
          ))}
        </div>
      </div>
    </section>
  );
}

function Turn({ exchange, phase, again }: { exchange: Exchange; phase: TalkState["phase"]; again?: () => void }) {
  const t = useT();
  return (
    <>
      <div className="chat-question text">{exchange.question}</div>
      <div className="chat-answer" data-testid="answer" data-done={phase === "idle"}>
        <div className="chat-who quiet">{exchange.model}</div>
        <div className="text">{exchange.answer}{phase === "answering" && <span className="chat-caret" aria-hidden />}</div>
        {phase === "loading" && <div className="quiet">{t("chat.loading")}</div>}
        {exchange.error !== null && <ErrorCard error={exchange.error} retry={again} />}
        {phase === "idle" && <Ending exchange={exchange} />}
      </div>
    </>
  );
}

/** How an answer ended, and how fast it came. */
function Ending({ exchange }: { exchange: Exchange }) {
  const t = useT();
  const { done, stopped } = exchange;
  if (stopped) return <div className="chat-end quiet">{t("chat.end.stopped")}</div>;
  if (!done) return null;
  const speed = number(done.num_tokens / Math.max(done.seconds, 1e-6), 3);
  return (
    <div className="chat-end quiet">
      {t("chat.figures", { n: done.num_tokens, speed })}
      {done.reason !== "end" && ` · ${t(`chat.end.${done.reason}`)}`}
    </div>
  );
}
