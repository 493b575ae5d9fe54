"""The part of Ray's dashboard API that a launcher speaks: jobs, and the state of the cluster.

Plain HTTP and JSON; the token goes in a header. A request never follows a proxy of the environment: it would be handed
the token.
"""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import orjson

from finery.core.errors import Unavailable
from finery.core.events import ClusterActor, ClusterNode

Status = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]

CLAIM: Final = "finery_claim"
"""Key of a submitted job's metadata: what it will take of the cluster, such as `8 GPU`."""

_TIMEOUT_SECONDS = 5.0
_RETRY_SECONDS = 0.5
_NO_AGENT = "No available agent"
_LONGEST_ANSWER = 2000
"""Characters of an unexpected answer that are repeated."""


class NotReached(Unavailable):
    """The dashboard does not answer, or does not know us."""

    code = "ray_not_reached"


@dataclass(frozen=True)
class JobInfo:
    """A submitted job, as the dashboard tells of it."""

    status: Status
    message: str
    exit_code: int | None
    """Of the entrypoint; negative where a signal ended it, None where it never ran or nobody saw its end."""

    @property
    def is_over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class RayApi:
    """One cluster's dashboard."""

    def __init__(self, address: str, token: str = ""):
        """Speak with a dashboard.

        Args:
            address: Such as http://127.0.0.1:8265.
            token: Of the cluster; empty sends none.
        """
        self.address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def version(self) -> str:
        """Version of Ray. Raises `NotReached`."""
        return str(self._get("/api/version")["ray_version"])

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        *,
        env: Mapping[str, str],
        metadata: Mapping[str, str],
        seconds: float,
    ) -> None:
        """Submit a job, and again while the cluster is too young to take one.

        Args:
            submission_id: Ours; a second job of that name is refused by Ray, which makes a repeated call safe.
            entrypoint: A shell command.
            env: Environment variables of the entrypoint.
            metadata: What is shown with the job.
            seconds: How long to go on trying.

        Raises:
            NotReached: the cluster did not take it in that time.
        """
        body = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "metadata": dict(metadata),
            "runtime_env": {"env_vars": dict(env)},
        }
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._call("POST", "/api/jobs/", body)
                return
            except NotReached as error:
                if "already exists" in str(error):
                    return
                if time.monotonic() > deadline or not _may_pass(str(error)):
                    raise
            time.sleep(_RETRY_SECONDS)

    def job(self, submission_id: str) -> JobInfo:
        """How a job is. Raises `NotReached`."""
        raw = self._get(f"/api/jobs/{quote(submission_id)}")
        code = raw.get("driver_exit_code")
        return JobInfo(cast(Status, raw["status"]), raw.get("message") or "", None if code is None else int(code))

    def logs(self, submission_id: str) -> str:
        """All that a job has printed so far. Raises `NotReached`."""
        return str(self._get(f"/api/jobs/{quote(submission_id)}/logs").get("logs") or "")

    def stop(self, submission_id: str) -> None:
        """Ask Ray to end a job: SIGTERM, after 3 s SIGKILL. Raises `NotReached`."""
        self._call("POST", f"/api/jobs/{quote(submission_id)}/stop", {})

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Machines of the cluster, with what they have and what is free. Raises `NotReached`."""
        report = self._get("/api/cluster_status")["data"]["clusterStatus"].get("loadMetricsReport") or {}
        used = report.get("usageByNode") or {}
        summary = self._get("/nodes?view=summary")["data"].get("summary") or []
        memory = {raw["raylet"].get("nodeId"): raw.get("mem") or () for raw in summary if raw.get("raylet")}
        return tuple(
            _node(raw, used.get(raw["node_id"], {}), memory.get(raw["node_id"], ())) for raw in self._listed("nodes")
        )

    def room(self, kind: str) -> tuple[int, int]:
        """Accelerators that a new job can take, and that there are, on all living nodes together.

        What Ray reports as used is some seconds old, and a job holds nothing until its processes are there: taken is
        also what actors and placement groups hold now, and what a living job of ours has announced with `CLAIM`.

        Args:
            kind: What Ray calls them, such as GPU.

        Raises:
            NotReached: the cluster does not answer.
        """
        alive = [node for node in self.nodes() if node.is_alive]
        total = sum(node.total.get(kind, 0.0) for node in alive)
        reported = total - sum(node.free.get(kind, 0.0) for node in alive)
        held: dict[str, float] = defaultdict(float)
        for actor in self._listed("actors"):
            if actor["state"] == "ALIVE":
                held[actor["job_id"]] += float((actor.get("required_resources") or {}).get(kind, 0.0))
        for group in self._listed("placement_groups"):
            if group["state"] == "CREATED":
                bundles = [bundle.get("unit_resources") or {} for bundle in group.get("bundles") or ()]
                held[group["creator_job_id"]] += sum(float(bundle.get(kind, 0.0)) for bundle in bundles)
        for job in self._get("/api/jobs/"):
            number, _, claimed = str((job.get("metadata") or {}).get(CLAIM, "")).partition(" ")
            if claimed == kind and job["status"] in ("PENDING", "RUNNING"):
                key = job.get("job_id") or job["submission_id"]
                held[key] = max(held[key], float(number))
        return int(total - max(reported, sum(held.values()))), int(total)

    def actors(self, submission_id: str) -> tuple[ClusterActor, ...]:
        """Processes of one job. Raises `NotReached`."""
        jobs = self._get("/api/jobs/")
        own = {raw["job_id"] for raw in jobs if raw.get("submission_id") == submission_id and raw.get("job_id")}
        if not own:
            return ()
        return tuple(
            sorted((_actor(raw) for raw in self._listed("actors") if raw["job_id"] in own), key=lambda one: one.name)
        )

    def _listed(self, what: str) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self._get(f"/api/v0/{what}?detail=1&limit=1000")["data"]["result"]["result"])

    def _get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else orjson.dumps(body),
            headers={**self._headers, "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:_LONGEST_ANSWER].strip()
            if error.code in (401, 403):
                raise NotReached(
                    f"{self.address} does not accept the token of this cluster (HTTP {error.code}); see token_file or "
                    "token_secret in FINERY_RAY_CLUSTERS"
                ) from None
            raise NotReached(f"{method} {path} at {self.address}: HTTP {error.code}: {said}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise NotReached(f"{self.address} does not answer: {reason}") from None
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise NotReached(f"{method} {path} at {self.address}: no JSON: {content[:100]!r}") from None


def _may_pass(said: str) -> bool:
    """Whether a refusal is one of a cluster that is still coming up."""
    return _NO_AGENT in said or "does not answer" in said or "HTTP 503" in said


_SHOWN: Final = ("CPU", "GPU", "NPU")
_ON_PURPOSE: Final = ("INTENDED", "references to the actor were removed", "ray.kill")


def _node(raw: Mapping[str, Any], usage: Mapping[str, Any], memory: Sequence[float]) -> ClusterNode:
    """A node. `memory` is the machine's own, total and available in bytes, as far as Ray knows: what Ray counts under
    that name is what actors have asked for, which is none."""
    total = {name: float(raw["resources_total"].get(name, 0.0)) for name in _SHOWN}
    total = {name: value for name, value in total.items() if value}
    free = {name: max(0.0, value - float(usage.get(name, [0.0])[0])) for name, value in total.items()}
    if len(memory) >= 2:
        total["memory"], free["memory"] = float(memory[0]), float(memory[1])
    return ClusterNode(
        id=raw["node_id"][:12],
        host=raw.get("node_name") or raw["node_ip"],
        address=raw["node_ip"],
        is_alive=raw["state"] == "ALIVE",
        is_head=bool(raw["is_head_node"]),
        total=total,
        free=free,
    )


def _actor(raw: Mapping[str, Any]) -> ClusterActor:
    died = (raw.get("death_cause") or {}).get("actor_died_error_context") or {}
    said = str(died.get("error_message") or "")
    return ClusterActor(
        name=raw.get("name") or f"{raw['class_name']} {raw['actor_id'][:8]}",
        kind=raw["class_name"].rpartition("<locals>.")[2],
        state=raw["state"],
        node=(raw.get("node_id") or "")[:12],
        pid=int(raw.get("pid") or 0),
        resources=_held(raw.get("required_resources") or {}),
        cause="" if any(word in said for word in _ON_PURPOSE) else said,
    )


def _held(required: Mapping[str, Any]) -> dict[str, float]:
    """What an actor holds, also where Ray names it as part of a placement group: `GPU_group_<id>`."""
    plain = {re.sub(r"_group_[0-9a-f]{30,}$", "", name): float(value) for name, value in required.items()}
    return {name: plain[name] for name in _SHOWN if name in plain}
