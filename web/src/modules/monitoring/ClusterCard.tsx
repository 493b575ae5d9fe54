import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Alert, Card, Table, Tag } from "antd";
import { api, take, type JobDetail } from "../../api/client";
import { useT } from "../../app/i18n";
import { Meter } from "../../ui/Meter";
import { RelativeTime } from "../../ui/RelativeTime";
import { held, hostOf, inOrder, isPretended, kinds, roleOf, standing, stateOf, taken, toneOf, type Actor, type Node, type Seen, type View } from "./cluster";

const PAGE = 50;
const testId = (name: string) => ({ "data-testid": name }) as React.HTMLAttributes<HTMLElement>;

/** @param every milliseconds between two looks; false asks once, and again when the job's state changes */
export function useCluster(job: JobDetail, every: number | false) {
  return useQuery({
    queryKey: ["cluster", job.id, job.attempt, job.state],
    queryFn: () => take(api.GET("/api/jobs/{job_id}/cluster", { params: { path: { job_id: job.id } } })),
    refetchInterval: every,
    placeholderData: keepPreviousData,
    enabled: job.attempt > 0,
  });
}

/** Machines of the Ray cluster under a run and where its processes are; nothing for a run without one. */
export function ClusterCard({ job, view }: { job: JobDetail; view: View | undefined }) {
  if (!view?.seen) return null;
  return <Shown job={job} view={view} seen={view.seen} />;
}

function Shown({ job, view, seen }: { job: JobDetail; view: View; seen: Seen }) {
  const t = useT();
  const now = standing(job, view);
  const isLive = now === "now";
  const moment = new Date(1000 * seen.time).toISOString();
  return (
    <Card
      size="small"
      className="card"
      data-testid="cluster"
      title={<>{t("cluster.title")} <Tag variant="filled">{seen.name || t("cluster.own")}</Tag></>}
      extra={<span className="quiet" data-testid="cluster-age" title={t("cluster.ageHelp")}>{t(`cluster.${now}`)} <RelativeTime key={moment} moment={moment} /></span>}
    >
      {now === "silent" && <Alert className="card" type="error" showIcon title={t("cluster.unreachable")} description={t("cluster.unreachableHelp")} data-testid="cluster-unreachable" />}
      {now === "past" && <p className="quiet" data-testid="cluster-past">{t("cluster.pastHelp", { n: view.attempt ?? 0 })}</p>}
      <div className="facts quiet-labels card">
        <span><i>{t("cluster.address")}</i> <code>{seen.address}</code></span>
      </div>
      <Nodes seen={seen} isLive={isLive} />
      {isPretended(job.spec, seen) && <p className="quiet">{t("cluster.pretended")}</p>}
      <Actors seen={seen} isLive={isLive} />
    </Card>
  );
}

function Nodes({ seen, isLive }: { seen: Seen; isLive: boolean }) {
  const t = useT();
  return (
    <Table<Node>
      className="card"
      size="small"
      rowKey="id"
      pagination={seen.nodes.length > PAGE ? { pageSize: PAGE, showSizeChanger: false } : false}
      scroll={{ x: "max-content" }}
      dataSource={[...seen.nodes]}
      onRow={(node) => testId(`node-${node.id}`)}
      columns={[
        { title: t("cluster.node"), render: (_, node) => <NodeName node={node} /> },
        { title: t("cluster.state"), width: 110, render: (_, node) => <NodeState isAlive={node.is_alive} isLive={isLive} /> },
        ...kinds(seen.nodes).map((kind) => ({
          title: kind === "memory" ? t("cluster.memory") : kind,
          key: kind,
          width: 190,
          render: (_: unknown, node: Node) => <Used node={node} kind={kind} />,
        })),
      ]}
    />
  );
}

function NodeName({ node }: { node: Node }) {
  const t = useT();
  return (
    <>
      <span className="text">{node.host}</span> {node.address !== node.host && <span className="quiet">{node.address} </span>}
      {node.is_head && <Tag variant="outlined">{t("cluster.head")}</Tag>}
    </>
  );
}

function NodeState({ isAlive, isLive }: { isAlive: boolean; isLive: boolean }) {
  const t = useT();
  return <Tag variant="outlined" className="tone" data-tone={toneOf(isAlive ? "alive" : "dead", isLive)}>{t(isAlive ? "cluster.state.alive" : "cluster.state.dead")}</Tag>;
}

/** How much is taken; of a dead machine nothing is known. */
function Used({ node, kind }: { node: Node; kind: string }) {
  const use = node.is_alive ? taken(node, kind) : null;
  return use ? <Meter name={kind} share={use.share} text={use.text} isNameShown={false} isFullBad={kind === "memory"} /> : <>–</>;
}

function Actors({ seen, isLive }: { seen: Seen; isLive: boolean }) {
  const t = useT();
  if (seen.actors.length === 0) return <p className="quiet">{t("cluster.noActors")}</p>;
  return (
    <Table<Actor>
      size="small"
      rowKey="name"
      pagination={seen.actors.length > PAGE ? { pageSize: PAGE, showSizeChanger: false } : false}
      scroll={{ x: "max-content" }}
      dataSource={inOrder(seen.actors)}
      onRow={(actor) => testId(`actor-${actor.name}`)}
      columns={[
        { title: t("cluster.role"), render: (_, actor) => <>{t(`cluster.role.${roleOf(actor)}`)} <code className="quiet">{actor.name}</code></> },
        { title: t("cluster.node"), render: (_, actor) => hostOf(actor, seen.nodes) ?? "–" },
        { title: t("cluster.pid"), width: 100, render: (_, actor) => actor.pid || "–" },
        { title: t("cluster.holds"), width: 180, render: (_, actor) => held(actor) || "–" },
        { title: t("cluster.state"), width: 300, render: (_, actor) => <ActorStateTag actor={actor} isLive={isLive} /> },
      ]}
    />
  );
}

function ActorStateTag({ actor, isLive }: { actor: Actor; isLive: boolean }) {
  const t = useT();
  const state = stateOf(actor);
  return (
    <>
      <Tag variant="outlined" className="tone" data-tone={toneOf(state, isLive)} data-state={state}>{t(`cluster.state.${state}`)}</Tag>
      {actor.cause && <div className="text actor-cause">{actor.cause}</div>}
    </>
  );
}
