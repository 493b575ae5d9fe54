/** A websocket that reconnects by itself and goes on from the last cursor. */
import type { LiveMessage } from "./client";
import { contact } from "./contact";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Live {
  private wasLost = false;
  private socket: WebSocket | null = null;
  private wait = FIRST_WAIT_MS;
  private timer: number | undefined;
  private isClosed = false;

  /**
   * @param path under /api, such as `jobs/4/live`
   * @param cursor gives the newest cursor that the page has, asked for at each connection
   * @param reopened called when the connection is back after it was lost
   */
  constructor(
    private readonly path: string,
    private readonly cursor: () => number,
    private readonly take: (message: LiveMessage) => void,
    private readonly reopened?: () => void,
  ) {
    this.connect();
  }

  close(): void {
    this.isClosed = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
    contact.report(this, true);
  }

  private connect(): void {
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${window.location.host}/api/${this.path}?after=${this.cursor()}`);
    this.socket = socket;
    socket.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      if (this.isClosed) return;
      if (this.wasLost) this.reopened?.();
      this.wasLost = false;
      contact.report(this, true);
    };
    socket.onmessage = (message: MessageEvent<string>) => {
      if (!this.isClosed) this.take(JSON.parse(message.data) as LiveMessage);
    };
    socket.onclose = () => {
      if (this.isClosed) return;
      this.wasLost = true;
      contact.report(this, false);
      this.timer = window.setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
    };
  }
}
