/** What a rule saw and did, in words. Pure. */
import type { JobDetail, Schemas } from "../../api/client";
import { number, yaml } from "../../app/format";
import type { Key, Translate } from "../../app/i18n";
import { asText } from "../../ui/stretch";

export type Entry = Schemas["StoryEntry"];
export type Action = Schemas["ActionEvent"];
export type Rule = Schemas["RuleView"];
export type Wish = Schemas["RequestView"];
type Firing = Schemas["FiringView"];

/** Steps to either side of one that is looked at. */
const AROUND = 25;

/** "learning_rate 1e-5 → 5e-6"; what was there before and is there after an action. */
export function changeText(event: Action): string {
  const [before, after] = [event.before ?? {}, event.after ?? {}];
  return Object.keys(before)
    .map((name) => `${name} ${number(before[name])} → ${number(after[name])}`)
    .join(", ");
}

/** What is seen of an alert: its condition with the values; the rule's name stands elsewhere. */
export function alertText(event: Schemas["AlertEvent"]): string {
  const start = `${event.rule}: `;
  return event.message.startsWith(start) ? event.message.slice(start.length) : event.message;
}

/** "reduce_lr (factor 0.5, floor 1e-8)" */
export function actionText({ name, params }: Rule["actions"][number]): string {
  const own = Object.entries(params).map(([key, value]) => `${key} ${typeof value === "number" ? number(value) : String(value)}`);
  return own.length > 0 ? `${name} (${own.join(", ")})` : name;
}

export type Outcome = Action["outcome"] | "undone" | "undoing" | "notUndone";

const UNDO_OUTCOME: Record<Wish["outcome"], Outcome> = { requested: "undoing", delivered: "undoing", applied: "undone", rejected: "notUndone" };

/** What has become of an action; a wish to undo it says more than the action itself. */
export function outcomeOf(event: Action, undone: Wish | null): Outcome {
  return undone ? UNDO_OUTCOME[undone.outcome] : event.outcome;
}

/** What will happen when an action is undone. */
export function undoText(entry: Entry, t: Translate): string {
  const { event, undo } = entry;
  if (event.type !== "action" || undo === null) return "";
  if (undo === "set") {
    const values = Object.entries(entry.undo_values).map(([name, value]) => `${name} ${number(value)}`);
    return t("alerts.undo.set", { values: values.join(", "), change: changeText(event) });
  }
  if (undo === "rewind") return t("alerts.undo.rewind", { step: number(event.before?.step), rule: event.rule });
  return t(undo === "resume" ? "alerts.undo.resume" : "alerts.undo.retry");
}

/** Who asked, in words. */
export function personText(by: string, t: Translate): string {
  const known: Record<string, Key> = { browser: "alerts.by.browser", token: "alerts.by.token" };
  const key = known[by] ?? (by.startsWith("outside-") ? "alerts.by.outside" : null);
  return key ? t(key) : by;
}

/** Address of the charts around a step. */
export function chartsAt(step: number): string {
  return `?${new URLSearchParams({ tab: "charts", zoom: asText({ from: Math.max(0, step - AROUND), to: step + AROUND }) }).toString()}`;
}

/** Rules as a text that can be changed and tried. */
export function rulesText(rules: readonly Rule[]): string {
  return yaml(rules.map((rule) => rule.spec)).trim();
}

/** Firings by rule, in the order in which the rules first fired. */
export function byRule(firings: readonly Firing[]): [string, Firing[]][] {
  const found = new Map<string, Firing[]>();
  for (const firing of firings) found.set(firing.rule, [...(found.get(firing.rule) ?? []), firing]);
  return [...found];
}

/** Whether the run, as it is, can be asked for this. */
export function isPossible(job: JobDetail, entry: Entry): boolean {
  return entry.undo !== null && job.verbs.includes(entry.undo);
}
