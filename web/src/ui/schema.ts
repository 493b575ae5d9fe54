/** JSON Schema as forms see it: which control a field gets, what its default is, what a change of a union takes along. Pure. */

export interface Schema {
  type?: string;
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: string[];
  examples?: string[];
  minItems?: number;
  anyOf?: Schema[];
  oneOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: unknown;
  required?: string[];
  discriminator?: { propertyName: string; mapping: Record<string, string> };
  advanced?: boolean;
  /** It holds a secret: what is typed is not shown, and never comes back. */
  secret?: string;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export type Path = (string | number)[];
/** A value to be written at a path; undefined takes out what is there. */
export interface Edit {
  path: Path;
  value: unknown;
}
export type Values = Record<string, unknown>;

interface Common {
  schema: Schema;
  /** Null stands for none. */
  isOptional: boolean;
}

/** What a field is, by the control that it gets. */
export type Field = Common &
  (
    | { kind: "flag" | "text" | "free" }
    | { kind: "number"; isInteger: boolean }
    | { kind: "choice"; options: string[] }
    /** A list of words or numbers; `alone` are texts that stand in place of a list. */
    | { kind: "words"; options: string[]; alone: string[]; hasNumbers: boolean }
    | { kind: "object" }
    | { kind: "union"; tag: string; options: string[] }
    | { kind: "list"; items: Schema }
  );

/** Follow a reference; what stands beside it wins. */
export function resolved(schema: Schema, root: Schema): Schema {
  if (!schema.$ref) return schema;
  const { $ref, ...beside } = schema;
  const target = root.$defs?.[$ref.replace("#/$defs/", "")];
  return target ? { ...resolved(target, root), ...beside } : beside;
}

export function fieldOf(raw: Schema, root: Schema): Field {
  const schema = resolved(raw, root);
  if (schema.anyOf) return alternatives(schema, schema.anyOf.map((option) => resolved(option, root)), root);
  const common = { schema, isOptional: false };
  if (schema.discriminator) {
    return { ...common, kind: "union", tag: schema.discriminator.propertyName, options: Object.keys(schema.discriminator.mapping) };
  }
  if (schema.enum) return { ...common, kind: "choice", options: schema.enum };
  if (schema.const !== undefined) return { ...common, kind: "choice", options: [String(schema.const)] };
  if (schema.type === "boolean") return { ...common, kind: "flag" };
  if (schema.type === "integer" || schema.type === "number") return { ...common, kind: "number", isInteger: schema.type === "integer" };
  if (schema.type === "string") return { ...common, kind: "text" };
  if (schema.type === "array" && schema.items) return list(common, resolved(schema.items, root));
  if (schema.properties || schema.additionalProperties === false) return { ...common, kind: "object" };
  return { ...common, kind: "free" };
}

function alternatives(schema: Schema, options: Schema[], root: Schema): Field {
  const beside: Schema = { ...schema, anyOf: undefined };
  const isOptional = options.some((option) => option.type === "null");
  const real = options.filter((option) => option.type !== "null");
  const [first] = real;
  if (real.length === 1 && first) return { ...fieldOf({ ...first, ...beside }, root), isOptional };
  const words = real.find((option) => option.type === "array" && option.items);
  const alone = real.flatMap((option) => option.enum ?? (typeof option.const === "string" ? [option.const] : []));
  if (words && real.every((option) => option === words || option.enum || option.const !== undefined)) {
    return { schema: beside, isOptional, kind: "words", options: alone, alone, hasNumbers: false };
  }
  const isText = real.every((option) => option.type === "string");
  return { schema: beside, isOptional, kind: isText ? "text" : "free" };
}

function list(common: Common, items: Schema): Field {
  if (items.properties || items.discriminator) return { ...common, kind: "list", items };
  const hasNumbers = [items, ...(items.anyOf ?? [])].some((option) => option.type === "integer");
  return { ...common, kind: "words", options: items.enum ?? [], alone: [], hasNumbers };
}

/** The member of a union that a value is, by its tag. */
export function memberOf(union: Schema, root: Schema, tag: unknown): Schema | undefined {
  const ref = typeof tag === "string" ? union.discriminator?.mapping[tag] : undefined;
  return ref ? resolved({ $ref: ref }, root) : undefined;
}

export function isObject(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isSame(one: unknown, other: unknown): boolean {
  if (Array.isArray(one) && Array.isArray(other)) return one.length === other.length && one.every((item, index) => isSame(item, other[index]));
  if (!isObject(one) || !isObject(other)) return one === other;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => key in other && isSame(one[key], other[key]));
}

/** Whether a written value is not the default. A field without a default is never changed. */
export function isChanged(schema: Schema, value: unknown): boolean {
  return value !== undefined && schema.default !== undefined && !isSame(value, schema.default);
}

/** How many written values below an object, the object itself not counted, are not the defaults. */
export function countChanged(schema: Schema, root: Schema, value: unknown): number {
  const field = fieldOf(schema, root);
  if (field.kind === "union") {
    const member = memberOf(field.schema, root, isObject(value) ? value[field.tag] : undefined);
    return member ? countChanged(member, root, value) : 0;
  }
  if (field.kind === "list") return Array.isArray(value) ? value.reduce<number>((sum, item) => sum + countChanged(field.items, root, item), 0) : 0;
  if (field.kind !== "object") return isChanged(field.schema, value) ? 1 : 0;
  if (!isObject(value)) return 0;
  return Object.entries(field.schema.properties ?? {}).reduce((sum, [name, part]) => sum + countChanged(part, root, value[name]), 0);
}

/** What changing the tag of a union means: the new tag, what it needs, and without what only the old member knew. */
export function switched(union: Schema, root: Schema, value: unknown, tag: string, path: Path): Edit[] {
  const name = union.discriminator?.propertyName ?? "";
  const member = memberOf(union, root, tag);
  if (!member) return [];
  const kept = isObject(value) ? value : {};
  return [{ path: [...path, name], value: tag }, ...misfits(member, root, { ...kept, [name]: tag }, path), ...needs(member, root, kept, path)];
}

function misfits(schema: Schema, root: Schema, value: Values, path: Path): Edit[] {
  return Object.entries(value).flatMap(([key, item]) => {
    const here = [...path, key];
    const part = schema.properties?.[key];
    if (!part || !fits(fieldOf(part, root), item)) return [{ path: here, value: undefined }];
    const field = fieldOf(part, root);
    if (!isObject(item) || field.kind === "free") return [];
    if (field.kind !== "union") return misfits(field.schema, root, item, here);
    const member = memberOf(field.schema, root, item[field.tag]);
    return member ? misfits(member, root, item, here) : switched(field.schema, root, item, field.options[0] ?? "", here);
  });
}

function fits(field: Field, value: unknown): boolean {
  if (field.kind === "choice") return typeof value === "string" && field.options.includes(value);
  if (field.kind === "object" || field.kind === "union") return isObject(value) || (field.isOptional && value === null);
  if (field.kind === "list") return Array.isArray(value);
  return field.kind === "free" || field.kind === "words" || !isObject(value);
}

function needs(schema: Schema, root: Schema, value: Values, path: Path): Edit[] {
  return (schema.required ?? []).flatMap((key) => {
    const field = fieldOf(schema.properties?.[key] ?? {}, root);
    const isThere = key in value && fits(field, value[key]);
    const first = isThere ? undefined : firstValue(field, root);
    return first === undefined ? [] : [{ path: [...path, key], value: first }];
  });
}

/** What a new one of this kind begins as; undefined where only the user knows. */
export function firstValue(field: Field, root: Schema): unknown {
  if (field.kind === "union") return { [field.tag]: field.options[0] };
  if (field.kind === "list") return [firstValue(fieldOf(field.items, root), root) ?? {}];
  return undefined;
}

/** Plain data with edits applied. */
export function assigned(values: Values, edits: Edit[]): Values {
  return edits.reduce<Values>((before, { path, value }) => put(before, path, value) as Values, values);
}

function put(here: unknown, [key, ...rest]: Path, value: unknown): unknown {
  if (key === undefined) return value;
  if (Array.isArray(here)) {
    const items: unknown[] = [...(here as unknown[])];
    if (rest.length === 0 && value === undefined) items.splice(Number(key), 1);
    else items[Number(key)] = put(items[Number(key)], rest, value);
    return items;
  }
  const values = isObject(here) ? here : {};
  const inner = rest.length === 0 ? value : put(values[key], rest, value);
  if (inner !== undefined) return { ...values, [key]: inner };
  return Object.fromEntries(Object.entries(values).filter(([name]) => name !== key));
}

/** Small and large numbers as people write them: 1e-5. */
export function numberText(value: number): string {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e16) ? value.toExponential() : String(value);
}

/** The number that a text is; undefined when it is none. */
export function parsedNumber(text: string): number | undefined {
  return /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}
