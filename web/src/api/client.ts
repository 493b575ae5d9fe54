/** The REST client: typed by OpenAPI, errors as one class. */
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Job = Schemas["JobView"];
export type JobDetail = Schemas["JobDetail"];
export type Streamed = Schemas["StreamedEvent"];
export type LiveMessage = Schemas["LiveMessage"]["message"];
export type Series = Schemas["SeriesView"];
export type Verb = Job["verbs"][number];
/** The client hands tuples out as lists. */
export type Score = Omit<Schemas["ScoreView"], "interval"> & { interval: number[] };

export interface Problem {
  path: string;
  message: string;
  line: number | null;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly problems: Problem[] = [],
  ) {
    super(message);
  }
}

export const api = createClient<paths>({ baseUrl: "/" });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer, or an ApiError. */
export async function take<T>(answer: Promise<Answer<T>>): Promise<T> {
  let found: Answer<T>;
  try {
    found = await answer;
  } catch {
    throw new ApiError(0, "unreachable", "");
  }
  if (found.response.ok) return found.data as T;
  const body = (found.error ?? {}) as { code?: string; message?: string; problems?: Problem[] };
  throw new ApiError(found.response.status, body.code ?? "error", body.message ?? found.response.statusText, body.problems);
}
