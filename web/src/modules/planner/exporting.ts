/** Plans as files of programs. The route's types are written by hand until the API's description has them. */
import { api, take } from "../../api/client";
import { asRequest, type Plan, type PlanRequest } from "./plan";

export const FORMATS = ["job", "verl", "trl", "accelerate", "deepspeed", "fsdp"] as const;
export type ExportFormat = (typeof FORMATS)[number];

interface ExportRequest {
  plan: PlanRequest;
  format: ExportFormat;
}

export interface ExportView {
  /** Texts by the names of their files. */
  files: Record<string, string>;
  notes: string[];
}

type Post = (path: string, options: { body: ExportRequest }) => Promise<{ data?: ExportView; error?: unknown; response: Response }>;

export function exportPlan(plan: Plan, format: ExportFormat): Promise<ExportView> {
  return take((api.POST as unknown as Post)("/api/plan/export", { body: { plan: asRequest(plan), format } }));
}
