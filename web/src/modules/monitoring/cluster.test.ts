import { describe, expect, it } from "vitest";
import { held, hostOf, inOrder, isPretended, kinds, roleOf, standing, stateOf, taken, toneOf, type Actor, type Node, type Seen, type View } from "./cluster";

const node = (changes: Partial<Node> = {}): Node => ({
  id: "a1", host: "head", address: "10.0.0.1", is_alive: true, is_head: true,
  total: { CPU: 64, GPU: 8, memory: 500e9 }, free: { CPU: 60, GPU: 0, memory: 200e9 }, ...changes,
});
const actor = (name: string, changes: Partial<Actor> = {}): Actor => ({
  name, kind: "WorkerDict", state: "ALIVE", node: "a1", pid: 41, resources: { CPU: 1, GPU: 0.3333 }, cause: "", ...changes,
});
const seen = (changes: Partial<Seen> = {}): Seen => ({
  type: "cluster", seq: 0, time: 1, name: "", address: "http://127.0.0.1:8265", is_reachable: true, nodes: [node()], actors: [], ...changes,
});
const view = (changes: Partial<View> = {}): View => ({ attempt: 1, seen: seen(), ...changes });

describe("processes of a run on a cluster", () => {
  it("are named after what verl's classes do", () => {
    const roles = ["WorkerDict", "WatchedTrainingWorker", "vLLMHttpServer", "Server", "AgentLoopWorkerTQ", "RewardLoopWorker", "SimpleStorageUnit", "TaskRunnerV1", "GlobalRequestLoadBalancer"]
      .map((kind) => roleOf(actor("x", { kind })));
    expect(roles).toEqual(["training", "training", "generating", "generating", "rollouts", "scoring", "data", "leading", "other"]);
  });

  it("stand by role and number, those that died of something first", () => {
    const names = inOrder([
      actor("reward_0", { kind: "RewardLoopWorker" }),
      actor("rank:10"),
      actor("rank:2"),
      actor("server", { kind: "Server", state: "DEAD", cause: "out of memory" }),
      actor("rank:3", { state: "DEAD" }),
    ]).map((one) => one.name);
    expect(names).toEqual(["server", "rank:2", "rank:3", "rank:10", "reward_0"]);
  });

  it("are red when they died of something, and not when their work was over", () => {
    const tones = (isLive: boolean) => [actor("x"), actor("x", { state: "PENDING_CREATION" }), actor("x", { state: "RESTARTING" }), actor("x", { state: "DEAD" }), actor("x", { state: "DEAD", cause: "SIGKILL" })]
      .map((one) => `${stateOf(one)} ${toneOf(stateOf(one), isLive)}`);
    expect(tones(true)).toEqual(["alive good", "starting warning", "restarting warning", "ended info", "dead error"]);
    expect(tones(false)).toEqual(["alive info", "starting info", "restarting info", "ended info", "dead error"]);
  });

  it("hold resources on a machine", () => {
    expect(held(actor("x"))).toBe("0.333 GPU, 1 CPU");
    expect(held(actor("x", { resources: {} }))).toBe("");
    expect(["a1", "b2", ""].map((id) => hostOf(actor("x", { node: id }), [node()]))).toEqual(["head", "b2", null]);
  });
});

describe("machines of a cluster", () => {
  it("show what is taken of each resource, accelerators first", () => {
    const npu = node({ total: { NPU: 16, CPU: 8 }, free: { NPU: 4 } });
    expect(kinds([node(), npu])).toEqual(["GPU", "NPU", "CPU", "memory"]);
    expect(taken(node(), "GPU")).toEqual({ share: 1, text: "8 / 8" });
    expect(taken(node(), "memory")?.text).toBe("300 GB / 500 GB");
    expect(taken(npu, "NPU")).toEqual({ share: 0.75, text: "12 / 16" });
    expect(taken(npu, "GPU")).toBeNull();
    expect(taken(npu, "CPU")).toEqual({ share: 0, text: "0 / 8" });
  });

  it("are as they are now only while the attempt runs and the cluster answers", () => {
    const silent = view({ seen: seen({ is_reachable: false }) });
    expect(standing({ state: "running", attempt: 1 }, view())).toBe("now");
    expect(standing({ state: "running", attempt: 1 }, silent)).toBe("silent");
    expect(standing({ state: "failed", attempt: 1 }, silent)).toBe("past");
    expect(standing({ state: "lost", attempt: 1 }, view())).toBe("past");
    expect(standing({ state: "running", attempt: 2 }, view())).toBe("past");
  });

  it("pretend GPUs only for a job without any on a cluster of its own", () => {
    expect(isPretended({ resources: { gpus: 0 } }, seen())).toBe(true);
    expect(isPretended({ resources: { gpus: 0 } }, seen({ name: "lab" }))).toBe(false);
    expect(isPretended({ resources: { gpus: 2 } }, seen())).toBe(false);
    expect(isPretended({}, seen())).toBe(false);
  });
});
