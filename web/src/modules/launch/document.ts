/** The job file as text and as values. What a form changes keeps the comments, the order and the rest of the text. */
import { Document, isCollection, isScalar, parseDocument, Scalar, stringify, visit, YAMLMap, YAMLSeq, type Node } from "yaml";
import { isObject, numberText, type Edit, type Path, type Values } from "../../ui/schema";

export interface Reading {
  values: Values;
  /** Why the text cannot be read; null when it can. */
  error: string | null;
}

/** The values of a job file; none where it is not plain YAML. */
export function read(text: string): Reading {
  const document = parseDocument(text, { prettyErrors: false });
  const [error] = document.errors;
  if (error) return { values: {}, error: error.message };
  const [values, aliasError] = plain(document);
  if (aliasError !== null) return { values: {}, error: aliasError };
  if (values === null || values === undefined) return { values: {}, error: null };
  return isObject(values) ? { values, error: null } : { values: {}, error: "" };
}

function plain(document: Document): [unknown, string | null] {
  try {
    return [document.toJS({ maxAliasCount: 0 }), null];
  } catch (error) {
    return [null, (error as Error).message];
  }
}

/** The text with edits applied, one after the other. */
export function edited(text: string, edits: Edit[]): string {
  return edits.reduce(withEdit, text);
}

function withEdit(text: string, { path, value }: Edit): string {
  // Every scalar stays the text that it is: 1.0e-4 is not rewritten as 0.0001.
  const document = parseDocument(text, { schema: "failsafe" });
  if (document.errors.length > 0) return text;
  const node = document.getIn(path, true);
  if (isScalar(node) && node.range && isPlain(node) && (value === null || (value !== undefined && typeof value !== "object"))) {
    const [start, end] = node.range;
    return text.slice(0, start) + (end === start ? " " : "") + scalarText(value) + text.slice(end);
  }
  if (value === undefined) {
    if (!document.hasIn(path)) return text;
    document.deleteIn(path);
  } else {
    open(document, path);
    document.setIn(path, toNode(value));
  }
  return written(document, text);
}

/** A scalar on one line, whose text can be replaced in place. */
function isPlain(node: Scalar): boolean {
  return node.type !== Scalar.BLOCK_FOLDED && node.type !== Scalar.BLOCK_LITERAL;
}

/** Make the mappings on the way to a path where nothing, or no mapping, is. */
function open(document: Document, path: Path): void {
  if (!isCollection(document.contents)) document.contents = new YAMLMap() as never;
  for (let depth = 1; depth < path.length; depth += 1) {
    const here = path.slice(0, depth);
    if (!isCollection(document.getIn(here))) document.setIn(here, new YAMLMap());
  }
}

function written(document: Document, before: string): string {
  visit(document, {
    Scalar: (_, node) => {
      if (node.type === Scalar.PLAIN && node.value === "") node.value = "null";
    },
  });
  const isIndented = !/^( *)\S[^\n]*:[ ]*\n\1- /m.test(before);
  return document.toString({ lineWidth: 0, flowCollectionPadding: /\{ \S/.test(before), indentSeq: isIndented });
}

function toNode(value: unknown): Node {
  if (Array.isArray(value)) {
    const list = new YAMLSeq();
    list.items = value.map(toNode);
    list.flow = value.every((item) => typeof item !== "object" || item === null);
    return list;
  }
  if (isObject(value)) {
    const map = new YAMLMap();
    for (const [key, item] of Object.entries(value)) map.set(toScalar(key), toNode(item));
    return map;
  }
  return toScalar(value);
}

function toScalar(value: unknown): Scalar {
  const scalar = new Scalar(typeof value === "string" ? value : scalarText(value));
  scalar.type = typeof value === "string" && !isBare(value) ? Scalar.QUOTE_DOUBLE : Scalar.PLAIN;
  return scalar;
}

function scalarText(value: unknown): string {
  if (typeof value === "number") return numberText(value);
  return typeof value === "string" && !isBare(value) ? JSON.stringify(value) : String(value);
}

/** Whether a text can stand without quotes wherever a scalar can. */
function isBare(text: string): boolean {
  return /^[A-Za-z_/][\w./@+-]*( [\w./@+-]+)*$/.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text);
}

/** Values as a job file of their own. */
export function toText(values: unknown): string {
  return stringify(values, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Name of the recipe that a job file started from. */
export function recipeOf(values: Values): string | null {
  return typeof values.recipe === "string" ? values.recipe : null;
}

/** The text with the line that names its recipe, before the first key; without one when there is no name. */
export function withRecipe(text: string, name: string | null): string {
  const without = text.replace(/^recipe:.*\n?/m, "");
  return name === null ? without : without.replace(/^(?=["']?\w)/m, `recipe: ${scalarText(name)}\n`);
}
