import { useMemo } from "react";
import { SchemaFields } from "./SchemaFields";
import { assigned, type Schema, type Values } from "./schema";
import { SchemaContext, type FieldProblem } from "./schemaContext";

export type ObjectSchema = Schema;

interface Props {
  schema: ObjectSchema;
  values: Values;
  change: (values: Values) => void;
  /** What is wrong, by dotted path. */
  problems?: FieldProblem[];
}

const NONE: FieldProblem[] = [];

/** A form drawn from JSON Schema: the same sentence is docstring, tooltip and API description. */
export function SchemaForm({ schema, values, change, problems = NONE }: Props) {
  const form = useMemo(() => ({ root: schema, problems, suggest: () => [], change: (edits: Parameters<typeof assigned>[1]) => change(assigned(values, edits)) }), [schema, values, change, problems]);
  return (
    <SchemaContext value={form}>
      <SchemaFields schema={schema} value={values} path={[]} />
    </SchemaContext>
  );
}
