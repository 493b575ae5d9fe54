/** The Ray cluster under a run: what its machines and processes are called, and which of them need a look. Pure. */
import type { JobDetail, Schemas } from "../../api/client";
import { bytes, number } from "../../app/format";

export type View = Schemas["ClusterView"];
export type Seen = NonNullable<View["seen"]>;
export type Node = Seen["nodes"][number];
export type Actor = Seen["actors"][number];
export type Tone = "good" | "info" | "warning" | "error";

/** What processes are for, in the order in which they are shown. */
export const ROLES = ["training", "generating", "rollouts", "scoring", "data", "leading", "other"] as const;
export type Role = (typeof ROLES)[number];

/** Names of classes of verl, and of the servers that stand in for its own on a CPU. */
const RULES: [RegExp, Role][] = [
  [/WorkerDict|TrainingWorker|RefWorker|DetachActorWorker|AsyncTrainer$/, "training"],
  [/HttpServer|^Server$|Rollouter$/, "generating"],
  [/^AgentLoopWorker/, "rollouts"],
  [/^Reward/, "scoring"],
  [/TransferQueue|StorageUnit|MessageQueue/, "data"],
  [/TaskRunner/, "leading"],
];

export function roleOf(actor: Actor): Role {
  return RULES.find(([pattern]) => pattern.test(actor.kind))?.[1] ?? "other";
}

/** Those that died of something first, then by role and by name, rank 2 before rank 10. */
export function inOrder(actors: readonly Actor[]): Actor[] {
  const place = (actor: Actor) => (hasFailed(actor) ? -1 : ROLES.indexOf(roleOf(actor)));
  return [...actors].sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** Dead, and not because its work was over. */
export function hasFailed(actor: Actor): boolean {
  return actor.state === "DEAD" && actor.cause !== "";
}

export type ActorState = "alive" | "starting" | "restarting" | "ended" | "dead";

export function stateOf(actor: Actor): ActorState {
  if (actor.state === "ALIVE") return "alive";
  if (actor.state === "DEAD") return actor.cause === "" ? "ended" : "dead";
  return actor.state === "RESTARTING" ? "restarting" : "starting";
}

/** @param isLive what was alive long ago is not praised for it */
export function toneOf(state: ActorState, isLive: boolean): Tone {
  if (state === "dead") return "error";
  if (!isLive || state === "ended") return "info";
  return state === "alive" ? "good" : "warning";
}

const FIRST = ["GPU", "NPU"];
const LAST = ["CPU", "memory"];

/** Resources that any machine has, accelerators first. */
export function kinds(nodes: readonly Node[]): string[] {
  const all = new Set(nodes.flatMap((node) => Object.keys(node.total)));
  const rest = [...all].filter((kind) => !FIRST.includes(kind) && !LAST.includes(kind)).sort();
  return [...FIRST, ...rest, ...LAST].filter((kind) => all.has(kind));
}

export interface Use {
  /** Of the whole, from 0 to 1. */
  share: number;
  text: string;
}

/** How much of a resource is taken on a machine; null where it has none. */
export function taken(node: Node, kind: string): Use | null {
  const total = node.total[kind];
  if (!total) return null;
  const used = total - (node.free[kind] ?? total);
  return { share: used / total, text: `${amount(kind, used)} / ${amount(kind, total)}` };
}

function amount(kind: string, value: number): string {
  return kind === "memory" ? bytes(value) : number(value, 3);
}

/** What a process holds: "1 GPU, 0.5 CPU". */
export function held(actor: Actor): string {
  return kindsOf(actor).map((kind) => `${amount(kind, actor.resources[kind] ?? 0)} ${kind}`).join(", ");
}

function kindsOf(actor: Actor): string[] {
  const names = Object.keys(actor.resources);
  return [...FIRST.filter((kind) => names.includes(kind)), ...names.filter((kind) => !FIRST.includes(kind)).sort()];
}

/** Where a process is: the name of its machine, its id where the machine is no longer told of. */
export function hostOf(actor: Actor, nodes: readonly Node[]): string | null {
  return actor.node === "" ? null : (nodes.find((node) => node.id === actor.node)?.host ?? actor.node);
}

const LIVE: readonly JobDetail["state"][] = ["allocated", "running", "pausing", "cancelling"];

/** `now`: somebody looks at the cluster; `silent`: it does not answer; `past`: the attempt that told of it is over. */
export type Standing = "now" | "silent" | "past";

export function standing(job: Pick<JobDetail, "state" | "attempt">, view: View): Standing {
  if (!LIVE.includes(job.state) || view.attempt !== job.attempt) return "past";
  return view.seen?.is_reachable === false ? "silent" : "now";
}

/** A cluster of the job's own counts a GPU for each process of a job without any: verl counts nothing else. */
export function isPretended(spec: JobDetail["spec"], seen: Seen): boolean {
  const resources = spec.resources as { gpus?: number | null } | undefined;
  return seen.name === "" && resources?.gpus === 0 && kinds(seen.nodes).includes("GPU");
}
