/** The text of a query, put together from what was chosen. Pure. The server reads it. */

export const OPERATORS = [":", "!=", "~", ">", ">=", "<", "<="] as const;
export type Operator = (typeof OPERATORS)[number];

export interface Condition {
  field: string;
  operator: Operator;
  value: string;
}

/** A value as it stands in a query: in quotes where it has spaces. */
export function quoted(value: string): string {
  const plain = value.replaceAll('"', "");
  return /[\s,]/.test(plain) ? `"${plain}"` : plain;
}

/** A query with one more condition. */
export function withCondition(query: string, { field, operator, value }: Condition): string {
  return [query.trim(), `${field}${operator}${quoted(value)}`].filter(Boolean).join(" ");
}

/** What is asked of the server: the words written and the states chosen. */
export function whole(query: string, states: string[], isArchive: boolean): string {
  return [query.trim(), states.length > 0 ? `state:${states.join(",")}` : "", isArchive ? "archived:yes" : ""].filter(Boolean).join(" ");
}

/** A value against the baseline's, in per cent of it; null where that says nothing. */
export function change(value: unknown, baseline: unknown): number | null {
  if (typeof value !== "number" || typeof baseline !== "number" || baseline === 0) return null;
  return (100 * (value - baseline)) / Math.abs(baseline);
}
