import { Button, Input } from "antd";
import type { TextAreaRef } from "antd/es/input/TextArea";
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import { useT } from "../../app/i18n";

interface Props {
  isBusy: boolean;
  /** Whether there is a model to talk to. */
  isReady: boolean;
  send: (text: string) => void;
  stop: () => void;
}

/** Where a message is written. */
export function Composer({ isBusy, isReady, send, stop }: Props) {
  const t = useT();
  const [text, setText] = useState("");
  const field = useRef<TextAreaRef>(null);
  useEffect(() => {
    if (isReady) field.current?.focus();
  }, [isReady]);
  const submit = () => {
    if (!isReady || isBusy || !text.trim()) return;
    send(text);
    setText("");
  };
  const press = (event: KeyboardEvent) => {
    // Enter also ends what an input method composes, such as Chinese from pinyin: that is no message yet.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  };
  return (
    <div className="chat-composer">
      <Input.TextArea
        ref={field}
        autoSize={{ minRows: 1, maxRows: 8 }}
        aria-label={t("chat.message")}
        placeholder={t("chat.messageHint")}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={press}
        data-testid="message"
      />
      {isBusy ? (
        <Button onClick={stop} data-testid="stop">{t("chat.stop")}</Button>
      ) : (
        <Button type="primary" disabled={!isReady || !text.trim()} onClick={submit} data-testid="send">{t("chat.send")}</Button>
      )}
    </div>
  );
}
