import { describe, expect, it } from "vitest";
import { byField, divided, shownParams, withStored, type Channel } from "./channel";

const SCHEMA = {
  properties: {
    url: { type: "string", secret: "url" },
    secret: { type: "string", secret: "text", default: "" },
    port: { type: "integer", default: 587 },
  },
  required: ["url"],
};
const CHANNEL = { params: { url: "CHANNEL_1_URL", secret: "", port: 25 } } as unknown as Channel;

describe("a channel's form", () => {
  it("sends secrets apart from parameters, and nothing that was not typed", () => {
    expect(divided(SCHEMA, { url: "https://x", secret: undefined, port: 25 })).toEqual({ params: { port: 25 }, secrets: { url: "https://x" } });
  });

  it("shows no secret of a channel that is there, and does not ask for it again", () => {
    expect(shownParams(SCHEMA, CHANNEL)).toEqual({ port: 25 });
    const edited = withStored(SCHEMA, CHANNEL, "stored");
    expect(edited.required).toEqual([]);
    expect(edited.properties?.url?.default).toBe("stored");
    expect(edited.properties?.secret?.default).toBe("");
  });

  it("puts what is wrong at its field", () => {
    const places = ["url", "body.secrets.url", "body.name", "params.port"].map((path) => ({ path, message: "", line: null }));
    expect(byField(places).map(({ path }) => path)).toEqual(["url", "url", "name", "port"]);
  });
});
