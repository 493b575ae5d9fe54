/** Whether the page is in contact with the server: it is when every source (websockets, the poll) says so. */

export interface Contact {
  /** Milliseconds since the epoch of the moment since when the page is stale; null while it is not. */
  staleSince: number | null;
}

type Listener = (contact: Contact) => void;

export class ContactStore {
  private readonly lost = new Set<unknown>();
  private readonly listeners = new Set<Listener>();
  private contact: Contact = { staleSince: null };

  constructor(private readonly now: () => number = Date.now) {}

  /** What one source of knowledge has found. */
  report(source: unknown, isConnected: boolean): void {
    if (isConnected) this.lost.delete(source);
    else this.lost.add(source);
    const isStale = this.lost.size > 0;
    if (isStale === (this.contact.staleSince !== null)) return;
    this.contact = { staleSince: isStale ? this.now() : null };
    this.listeners.forEach((listener) => listener(this.contact));
  }

  /** Follow it; called once at once. */
  follow(listener: Listener): () => void {
    this.listeners.add(listener);
    listener(this.contact);
    return () => void this.listeners.delete(listener);
  }
}

export const contact = new ContactStore();
