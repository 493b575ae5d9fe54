/** The events of an answer, out of the bytes of a stream of server-sent events. */
import type { Schemas } from "../../api/client";

export type ChatEvent = Schemas["ChatStream"]["event"];
export type Done = Schemas["ChatDone"];

const PREFIX = "data: ";

/** Each event as soon as its line is complete. */
export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<ChatEvent> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith(PREFIX)) yield (JSON.parse(line.slice(PREFIX.length)) as Schemas["ChatStream"]).event;
      }
    }
  } finally {
    reader.releaseLock();
  }
}
