/** What was said with one model, and the answer that is coming. Lives as long as the page, whatever is shown of it. */
import { api, ApiError, take, type Schemas } from "../../api/client";
import { readEvents, type ChatEvent, type Done } from "./events";

export type Sampling = Schemas["ChatSampling"];
export type Message = Schemas["ChatTurn"];

export interface Exchange {
  question: string;
  answer: string;
  /** Who answers. */
  model: string;
  /** How the answer ended; null while it comes, or when it failed. */
  done: Done | null;
  stopped: boolean;
  error: unknown;
}

export interface Asked {
  model: string;
  messages: Message[];
  sampling: Sampling;
}

export interface Settings {
  system: string;
  sampling: Sampling;
}

type Phase = "idle" | "loading" | "answering";
export interface TalkState {
  exchanges: Exchange[];
  phase: Phase;
}

export type Ask = (asked: Asked, signal: AbortSignal) => AsyncGenerator<ChatEvent>;

const EMPTY: TalkState = { exchanges: [], phase: "idle" };

export class Talk {
  private state = EMPTY;
  private readonly listeners = new Set<() => void>();
  private abort: AbortController | null = null;

  constructor(private readonly ask: Ask) {}

  readonly follow = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };

  readonly now = (): TalkState => this.state;

  /** Say something; resolves when the answer has ended, however it did. */
  async say(model: string, question: string, settings: Settings): Promise<void> {
    const abort = new AbortController();
    this.abort = abort;
    const messages = [...messagesOf(this.state.exchanges, settings.system), { role: "user", content: question } as const];
    this.set({ exchanges: [...this.state.exchanges, { question, answer: "", model, done: null, stopped: false, error: null }], phase: "answering" });
    try {
      for await (const event of this.ask({ model, messages, sampling: settings.sampling }, abort.signal)) {
        if (this.abort !== abort) return;
        this.take(event);
      }
      const last = this.state.exchanges.at(-1);
      if (this.abort === abort && last && !last.done && !last.error) this.last({ error: new ApiError(0, "unreachable", "") });
    } catch (error) {
      if (this.abort === abort) this.last(abort.signal.aborted ? { stopped: true } : { error });
    } finally {
      if (this.abort === abort) this.set({ ...this.state, phase: "idle" });
    }
  }

  /** Ask the last question anew. */
  async again(settings: Settings): Promise<void> {
    const last = this.state.exchanges.at(-1);
    if (!last || this.state.phase !== "idle") return;
    this.set({ ...this.state, exchanges: this.state.exchanges.slice(0, -1) });
    await this.say(last.model, last.question, settings);
  }

  /** End the answer that is coming; what has come of it stays. */
  stop(): void {
    this.abort?.abort();
  }

  reset(): void {
    this.stop();
    this.abort = null;
    this.set(EMPTY);
  }

  private take(event: ChatEvent): void {
    const last = this.state.exchanges.at(-1);
    if (event.type === "loading") this.set({ ...this.state, phase: "loading" });
    else if (event.type === "text") this.last({ answer: (last?.answer ?? "") + event.text }, "answering");
    else if (event.type === "done") this.last({ done: event });
    else this.last({ error: new ApiError(500, event.code, event.message) });
  }

  private last(changes: Partial<Exchange>, phase: Phase = this.state.phase): void {
    const last = this.state.exchanges.at(-1);
    if (last) this.set({ exchanges: [...this.state.exchanges.slice(0, -1), { ...last, ...changes }], phase });
  }

  private set(state: TalkState): void {
    this.state = state;
    this.listeners.forEach((listener) => listener());
  }
}

/** The conversation as a model is given it. A question that got no answer at all is left out. */
export function messagesOf(exchanges: Exchange[], system: string): Message[] {
  const first: Message[] = system.trim() ? [{ role: "system", content: system }] : [];
  const said = exchanges.filter((exchange) => exchange.answer !== "" || exchange.done);
  return [...first, ...said.flatMap((exchange): Message[] => [{ role: "user", content: exchange.question }, { role: "assistant", content: exchange.answer }])];
}

/** One line of JSON for each conversation: a row of SFT data, as `finery chat` saves and loads it. */
export function transcript(sides: { model: string; exchanges: Exchange[] }[], settings: Settings): string {
  return sides.map(({ model, exchanges }) => `${JSON.stringify({ model, sampling: settings.sampling, messages: messagesOf(exchanges, settings.system) })}\n`).join("");
}

async function* askServer(asked: Asked, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  const stream = await take(api.POST("/api/chat", { body: asked, parseAs: "stream", signal }));
  yield* readEvents(stream as unknown as ReadableStream<Uint8Array>);
}

/** The two sides of the page. */
export const TALKS = { a: new Talk(askServer), b: new Talk(askServer) };
