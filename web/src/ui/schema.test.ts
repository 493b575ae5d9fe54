import { describe, expect, it } from "vitest";
import { assigned, countChanged, fieldOf, isChanged, numberText, parsedNumber, switched, type Schema } from "./schema";

const ROOT: Schema = {
  $defs: {
    Optim: { type: "object", properties: { rate: { type: "number", default: 1e-5 }, steps: { type: "integer", default: 60 } } },
    Data: { type: "object", properties: { train: { type: "string" } }, required: ["train"] },
    Sft: {
      type: "object",
      properties: { algorithm: { const: "sft", type: "string" }, data: { $ref: "#/$defs/Data" }, optim: { $ref: "#/$defs/Optim" }, batch: { type: "integer", default: 8 } },
      required: ["algorithm", "data"],
    },
    Grpo: {
      type: "object",
      properties: { algorithm: { const: "grpo", type: "string" }, data: { $ref: "#/$defs/Data" }, optim: { $ref: "#/$defs/Optim" }, rewards: { type: "array", items: { $ref: "#/$defs/Reward" } } },
      required: ["algorithm", "data", "rewards"],
    },
    Exact: { type: "object", properties: { name: { const: "exact" }, weight: { type: "number", default: 1 }, params: { type: "object", additionalProperties: false, properties: { fold: { type: "boolean", default: false } } } } },
    Format: { type: "object", properties: { name: { const: "format" }, weight: { type: "number", default: 1 }, params: { type: "object", additionalProperties: false, properties: { pattern: { type: "string", default: ".*" } } } } },
    Reward: { discriminator: { propertyName: "name", mapping: { exact: "#/$defs/Exact", format: "#/$defs/Format" } } },
    Task: { discriminator: { propertyName: "algorithm", mapping: { sft: "#/$defs/Sft", grpo: "#/$defs/Grpo" } } },
  },
};
const def = (name: string): Schema => ROOT.$defs?.[name] ?? {};

describe("fields", () => {
  it.each<[Schema, string]>([
    [{ type: "string", enum: ["a", "b"] }, "choice"],
    [{ anyOf: [{ type: "integer" }, { type: "null" }], default: null }, "number"],
    [{ anyOf: [{ $ref: "#/$defs/Optim" }, { type: "null" }], default: null }, "object"],
    [{ anyOf: [{ type: "array", items: { type: "string" } }, { const: "all", type: "string" }] }, "words"],
    [{ type: "array", items: { anyOf: [{ type: "integer" }, { type: "string" }] } }, "words"],
    [{ type: "array", items: { $ref: "#/$defs/Reward" } }, "list"],
    [{ type: "object", additionalProperties: true }, "free"],
    [{ anyOf: [{ type: "string" }, { $ref: "#/$defs/Data" }] }, "free"],
    [{ $ref: "#/$defs/Task" }, "union"],
    [{ type: "boolean" }, "flag"],
  ])("%j is a %s", (schema, kind) => {
    expect(fieldOf(schema, ROOT).kind).toBe(kind);
  });

  it("keep the description and default that stand beside a reference", () => {
    expect(fieldOf({ $ref: "#/$defs/Optim", default: { rate: 1 }, description: "How." }, ROOT).schema).toMatchObject({ default: { rate: 1 }, description: "How." });
  });
});

describe("defaults", () => {
  it("are not changes when they are written out", () => {
    expect(isChanged({ default: 1e-5 }, 1e-5)).toBe(false);
    expect(isChanged({ default: [] }, ["a"])).toBe(true);
    expect(isChanged({ default: null }, undefined)).toBe(false);
    expect(isChanged({}, "required")).toBe(false);
  });

  it("are counted through objects, unions and lists", () => {
    const task = { algorithm: "grpo", data: { train: "x" }, optim: { rate: 1e-5, steps: 3 }, rewards: [{ name: "exact" }, { name: "format", weight: 2, params: { pattern: "x" } }] };
    expect(countChanged(def("Task"), ROOT, task)).toBe(3);
  });
});

describe("changing the member of a union", () => {
  it("keeps what both have, takes out what only the old one had, and begins what the new one needs", () => {
    const before = { algorithm: "sft", data: { train: "x" }, optim: { rate: 1 }, batch: 4 };
    const after = assigned({ task: before }, switched(def("Task"), ROOT, before, "grpo", ["task"]));
    expect(after.task).toEqual({ algorithm: "grpo", data: { train: "x" }, optim: { rate: 1 }, rewards: [{ name: "exact" }] });
  });

  it("takes parameters out that the new one does not have", () => {
    const before = { name: "format", weight: 2, params: { pattern: "x" } };
    expect(assigned(before, switched(def("Reward"), ROOT, before, "exact", []))).toEqual({ name: "exact", weight: 2, params: {} });
  });
});

describe("numbers", () => {
  it("are written as people write them and read back", () => {
    for (const value of [0, 1e-5, 2.5e-4, 0.001, 96, -3, 1.5]) expect(parsedNumber(numberText(value))).toBe(value);
    expect(numberText(0.00001)).toBe("1e-5");
  });

  it.each(["", "1e", "abc", "1,5", "0x10", "Infinity"])("%j is none", (text) => {
    expect(parsedNumber(text)).toBeUndefined();
  });
});
