/** What every field of a form needs, whatever its depth. */
import { createContext, useContext } from "react";
import type { Edit, Path, Schema } from "./schema";

export interface FieldProblem {
  path: string;
  message: string;
}

export interface FormContext {
  /** Where references lead. */
  root: Schema;
  /** By dotted path. */
  problems: FieldProblem[];
  /** Texts to choose from at a dotted path; others can be written as well. */
  suggest: (path: string) => string[];
  change: (edits: Edit[]) => void;
}

export const SchemaContext = createContext<FormContext>({ root: {}, problems: [], suggest: () => [], change: () => undefined });

export function useForm(): FormContext {
  return useContext(SchemaContext);
}

/** What is wrong at a path, or below it for a control that has no parts. */
export function problemsAt(problems: FieldProblem[], path: Path, { deep }: { deep: boolean }): FieldProblem[] {
  const dotted = path.join(".");
  return problems.filter((problem) => problem.path === dotted || (deep && problem.path.startsWith(`${dotted}.`)));
}
