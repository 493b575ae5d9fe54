import { describe, expect, it } from "vitest";
import { readEvents, type ChatEvent } from "./events";
import { messagesOf, Talk, transcript, type Asked, type Settings } from "./talk";

const SETTINGS: Settings = { system: "", sampling: { temperature: 0 } };
const DONE = { type: "done", reason: "end", num_tokens: 2, num_prompt_tokens: 3, num_reused_tokens: 0, seconds: 1 } as const;

/** A server that gives the same events to every question, and keeps what it was asked. */
function scripted(events: (ChatEvent | Error)[]) {
  const asked: Asked[] = [];
  async function* ask(question: Asked, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    asked.push(question);
    for (const event of events) {
      await Promise.resolve();
      if (signal.aborted) throw new Error("aborted");
      if (event instanceof Error) throw event;
      yield event;
    }
  }
  return { asked, talk: new Talk(ask) };
}

const text = (piece: string): ChatEvent => ({ type: "text", text: piece });

describe("a talk", () => {
  it("joins the pieces and sends the whole conversation next time", async () => {
    const { asked, talk } = scripted([{ type: "loading" }, text("fo"), text("ur"), DONE]);
    await talk.say("m", "2+2", { ...SETTINGS, system: "be brief" });
    await talk.say("m", "sure?", { ...SETTINGS, system: "be brief" });
    expect(talk.now().phase).toBe("idle");
    expect(talk.now().exchanges.map((exchange) => exchange.answer)).toEqual(["four", "four"]);
    expect(asked[1]?.messages).toEqual([
      { role: "system", content: "be brief" },
      { role: "user", content: "2+2" },
      { role: "assistant", content: "four" },
      { role: "user", content: "sure?" },
    ]);
  });

  it("keeps what had come when it is stopped", async () => {
    const { talk } = scripted([text("fo"), text("ur"), DONE]);
    talk.follow(() => {
      if (talk.now().exchanges.at(-1)?.answer === "fo") talk.stop();
    });
    await talk.say("m", "2+2", SETTINGS);
    expect(talk.now()).toMatchObject({ phase: "idle", exchanges: [{ answer: "fo", stopped: true, error: null }] });
  });

  it("says when the stream breaks off, and asks again", async () => {
    const { asked, talk } = scripted([text("fo")]);
    await talk.say("m", "2+2", SETTINGS);
    expect(talk.now().exchanges[0]?.error).toMatchObject({ status: 0 });
    await talk.again(SETTINGS);
    expect(asked[1]).toEqual(asked[0]);
    expect(talk.now().exchanges).toHaveLength(1);
  });

  it("leaves a question that got no answer out of what is sent next", async () => {
    const { asked, talk } = scripted([{ type: "failed", code: "invalid_spec", message: "too long" }]);
    await talk.say("m", "x", SETTINGS);
    await talk.say("m", "y", SETTINGS);
    expect(talk.now().exchanges[0]?.error).toMatchObject({ message: "too long" });
    expect(asked[1]?.messages).toEqual([{ role: "user", content: "y" }]);
  });

  it("takes nothing more of an answer after a reset", async () => {
    const { talk } = scripted([text("fo"), text("ur"), DONE]);
    const said = talk.say("m", "2+2", SETTINGS);
    talk.reset();
    await said;
    expect(talk.now()).toEqual({ exchanges: [], phase: "idle" });
  });
});

describe("a transcript", () => {
  it("is a line of JSON for each side", async () => {
    const { talk } = scripted([text("four"), DONE]);
    await talk.say("m", "2+2", SETTINGS);
    const { exchanges } = talk.now();
    const lines = transcript([{ model: "m", exchanges }, { model: "n", exchanges: [] }], SETTINGS).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { model: "m", sampling: { temperature: 0 }, messages: messagesOf(exchanges, "") },
      { model: "n", sampling: { temperature: 0 }, messages: [] },
    ]);
  });
});

describe("events", () => {
  it("are read across the borders of chunks and of characters", async () => {
    const bytes = new TextEncoder().encode(`data: {"event":{"type":"text","text":"三"}}\n\ndata: {"event":{"type":"text","text":"b"}}\n\n`);
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
        controller.close();
      },
    });
    const found: ChatEvent[] = [];
    for await (const event of readEvents(stream)) found.push(event);
    expect(found).toEqual([text("三"), text("b")]);
  });
});
