import { describe, expect, it } from "vitest";
import { ContactStore, type Contact } from "./contact";

describe("contact", () => {
  it("is lost with the first source and back with the last, and says since when", () => {
    let now = 100;
    const store = new ContactStore(() => now);
    const said: Contact[] = [];
    store.follow((contact) => said.push(contact));
    store.report("socket", false);
    now = 200;
    store.report("poll", false);
    store.report("socket", true);
    store.report("poll", true);
    expect(said.map((contact) => contact.staleSince)).toEqual([null, 100, null]);
  });

  it("comes back when a socket is closed on purpose", () => {
    const store = new ContactStore();
    const said: boolean[] = [];
    store.follow((contact) => said.push(contact.staleSince !== null));
    store.report("socket", false);
    store.report("socket", true);
    expect(said).toEqual([false, true, false]);
  });
});
