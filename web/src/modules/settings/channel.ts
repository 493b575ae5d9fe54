/** From a channel to the values of its form and back. Secrets go one way: what is typed is sent, what is stored stays there. Pure. */
import type { Problem, Schemas } from "../../api/client";
import type { Schema, Values } from "../../ui/schema";

export type Channel = Schemas["ChannelView"];
export type Delivery = Schemas["DeliveryView"];
export type ChannelEvent = Channel["events"][number];
export type MessageLanguage = Channel["language"];

export const EVENTS: ChannelEvent[] = ["alerts", "failed", "lost", "completed", "paused"];
export const DEFAULT_EVENTS: ChannelEvent[] = ["alerts", "failed", "lost", "paused"];

/** The parameters that are no secrets, and the secrets that were typed. */
export function divided(schema: Schema, values: Values): { params: Values; secrets: Record<string, string> } {
  const isSecret = (name: string) => Boolean(schema.properties?.[name]?.secret);
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return {
    params: Object.fromEntries(entries.filter(([name]) => !isSecret(name))),
    secrets: Object.fromEntries(entries.filter(([name]) => isSecret(name)).map(([name, value]) => [name, String(value)])),
  };
}

/** What the form of a channel begins with: all but its secrets. */
export function shownParams(schema: Schema, channel: Channel): Values {
  return divided(schema, channel.params).params;
}

/** The schema for a channel that is there: its stored secrets need not be typed again. */
export function withStored(schema: Schema, channel: Channel, keep: string): Schema {
  const stored = Object.entries(schema.properties ?? {}).filter(([name, field]) => field.secret && channel.params[name]);
  const names = stored.map(([name]) => name);
  return {
    ...schema,
    properties: { ...schema.properties, ...Object.fromEntries(stored.map(([name, field]) => [name, { ...field, default: keep }])) },
    required: (schema.required ?? []).filter((name) => !names.includes(name)),
  };
}

/** Problems by the field of the form; the API names where in the request they are. */
export function byField(problems: Problem[]): { path: string; message: string }[] {
  return problems.map(({ path, message }) => ({ path: path.replace(/^(body\.)?(params|secrets)\./, "").replace(/^body\./, ""), message }));
}

/** What a delivery is about, in a word: the rule, or the state that the run came to. */
export function subject(delivery: Delivery, word: (kind: Delivery["notice"]["kind"]) => string): string {
  return delivery.notice.rule || word(delivery.notice.kind);
}
