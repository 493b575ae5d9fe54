import { describe, expect, it } from "vitest";
import { translator } from "../../app/i18n";
import { actionText, alertText, byRule, changeText, chartsAt, outcomeOf, personText, rulesText, undoText, type Action, type Entry, type Rule, type Wish } from "./alerts";

const t = translator("en");
const CUT: Action = {
  type: "action", seq: 1, time: 1, rule: "drift", action: "reduce_lr", outcome: "applied", message: "cut", step: 12,
  before: { learning_rate: 1e-5 }, after: { learning_rate: 5e-6 }, channels: [],
};
const wish = (outcome: Wish["outcome"]): Wish => ({ id: 1, verb: "set", values: {}, by: "browser", requested_at: "2026-01-01T00:00:00Z", outcome, message: "", undoes: 4 });
const entry = (undo: Entry["undo"], changes: Partial<Action> = {}): Entry => ({ cursor: 4, attempt: 1, event: { ...CUT, ...changes }, undo, undo_values: undo === "set" ? { learning_rate: 9e-6 } : {}, undone: null });

describe("the story of a run", () => {
  it("tells values before and after", () => {
    expect(changeText(CUT)).toBe("learning_rate 1e-5 → 5e-6");
    expect(changeText({ ...CUT, before: { state: "running" }, after: { state: "paused" } })).toBe("state running → paused");
    expect(changeText({ ...CUT, before: {}, after: {} })).toBe("");
  });

  it("does not say the rule's name twice", () => {
    const alert = { type: "alert" as const, seq: 1, time: 1, severity: "warning" as const, rule: "drift", step: 3 };
    expect(alertText({ ...alert, message: "drift: kl > 0.2 (kl = 0.3)" })).toBe("kl > 0.2 (kl = 0.3)");
    expect(alertText({ ...alert, message: "a line was skipped" })).toBe("a line was skipped");
  });

  it("knows what has become of an action", () => {
    expect(outcomeOf(CUT, null)).toBe("applied");
    expect([wish("requested"), wish("delivered"), wish("applied"), wish("rejected")].map((one) => outcomeOf(CUT, one))).toEqual(["undoing", "undoing", "undone", "notUndone"]);
  });

  it("says what an undo will do", () => {
    expect(undoText(entry("set"), t)).toBe("Sets learning_rate 9e-6 from the next step on. The rule did: learning_rate 1e-5 → 5e-6.");
    expect(undoText(entry("rewind", { before: { step: 12 }, after: { step: 10 } }), t)).toContain("goes on from step 12");
    expect(undoText(entry("resume"), t)).toContain("when the rule paused it");
    expect(undoText(entry("retry"), t)).toContain("when the rule stopped it");
    expect(undoText(entry(null), t)).toBe("");
  });

  it("names people and the supervisor", () => {
    expect(["browser", "token", "outside-2", "anna"].map((by) => personText(by, t))).toEqual(["a person in the browser", "a person with the token", "a rule from outside the run", "anna"]);
  });

  it("opens the charts around a step", () => {
    expect(chartsAt(100)).toBe("?tab=charts&zoom=75%7E125");
    expect(chartsAt(3)).toBe("?tab=charts&zoom=0%7E28");
  });
});

describe("rules", () => {
  const rule: Rule = {
    name: "drift", when: "kl > 0.2 for 10 steps", actions: [], severity: "warning", cooldown_steps: 100, max_count: 5, num_fired: 0, is_muted: false, is_of_steps: true,
    spec: { name: "drift", when: "kl > 0.2 for 10 steps", then: [{ name: "reduce_lr", params: { floor: 1e-8 } }] },
  };

  it("become a text that can be tried", () => {
    expect(rulesText([rule])).toBe('- name: drift\n  when: "kl > 0.2 for 10 steps"\n  then:\n    - name: reduce_lr\n      params:\n        floor: 1e-8');
  });

  it("tell their actions with the parameters", () => {
    expect(actionText({ name: "reduce_lr", params: { factor: 0.5, floor: 1e-8 } })).toBe("reduce_lr (factor 0.5, floor 1e-8)");
    expect(actionText({ name: "notify", params: {} })).toBe("notify");
  });

  it("are told apart in a dry run", () => {
    const firing = (name: string, step: number) => ({ rule: name, severity: "info" as const, attempt: 1, step, message: "", actions: [], is_exhausted: false });
    expect(byRule([firing("a", 1), firing("b", 2), firing("a", 3)]).map(([name, own]) => [name, own.map((one) => one.step)])).toEqual([["a", [1, 3]], ["b", [2]]]);
  });
});
