/** A websocket that reconnects by itself and goes on from the last cursor. */
import type { LiveMessage } from "./client";

export interface LiveStatus {
  isConnected: boolean;
  /** Milliseconds since the epoch of the moment since when the page is stale; null while it is not. */
  staleSince: number | null;
}

type Listener = (status: LiveStatus) => void;

const listeners = new Set<Listener>();
const open = new Set<Live>();
let status: LiveStatus = { isConnected: true, staleSince: null };

function announce(): void {
  const isConnected = [...open].every((live) => live.isConnected);
  if (isConnected === status.isConnected) return;
  status = { isConnected, staleSince: isConnected ? null : Date.now() };
  listeners.forEach((listener) => listener(status));
}

/** Follow whether the page is in contact with the server. */
export function onLiveStatus(listener: Listener): () => void {
  listeners.add(listener);
  listener(status);
  return () => void listeners.delete(listener);
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Live {
  isConnected = true;
  private socket: WebSocket | null = null;
  private wait = FIRST_WAIT_MS;
  private timer: number | undefined;
  private isClosed = false;

  /**
   * @param path under /api, such as `jobs/4/live`
   * @param cursor gives the newest cursor that the page has, asked for at each connection
   */
  constructor(
    private readonly path: string,
    private readonly cursor: () => number,
    private readonly take: (message: LiveMessage) => void,
    /** Called when the connection is back after it was lost. */
    private readonly reopened?: () => void,
  ) {
    open.add(this);
    this.connect();
  }

  close(): void {
    this.isClosed = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
    open.delete(this);
    announce();
  }

  private connect(): void {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${window.location.host}/api/${this.path}?after=${this.cursor()}`);
    this.socket = socket;
    socket.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      if (!this.isConnected) this.reopened?.();
      this.isConnected = true;
      announce();
    };
    socket.onmessage = (message: MessageEvent<string>) => this.take(JSON.parse(message.data) as LiveMessage);
    socket.onclose = () => {
      if (this.isClosed) return;
      this.isConnected = false;
      announce();
      this.timer = window.setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
    };
  }
}
