/** Plans as files of programs. */
import { api, take, type Schemas } from "../../api/client";
import { asRequest, type Plan } from "./plan";

export const FORMATS = ["job", "verl", "trl", "accelerate", "deepspeed", "fsdp"] as const satisfies readonly Schemas["ExportRequest"]["format"][];
export type ExportFormat = (typeof FORMATS)[number];

export function exportPlan(plan: Plan, format: ExportFormat): Promise<Schemas["ExportView"]> {
  return take(api.POST("/api/plan/export", { body: { plan: asRequest(plan), format } }));
}
