"""Tells of the cluster under a run: its machines, what is free on them, and where the run's processes are."""

import time
from contextlib import suppress
from typing import Any, Final

from finery.core.clusters import ClusterTarget
from finery.core.events import ClusterActor, ClusterNode
from finery.core.rundir import EventWriter
from finery.runtime.cluster.api import NotReached, RayApi

_LOOK_SECONDS: Final = 10.0
_LOOK_AT_NODES_SECONDS: Final = 4.0
"""Where machines of the run may be lost: on a configured cluster."""
_FIRST_LOOK_SECONDS: Final = 2.0
"""While the run has no process on the cluster yet."""
_MEMORY_STEP: Final = 0.05
"""Share of a machine's memory by which what is free of it must move to be told: it moves all the time."""


class ClusterWatch:
    """Writes an event when the cluster has changed since the last one."""

    def __init__(self, api: RayApi, submission: str, target: ClusterTarget, events: EventWriter):
        self._api = api
        self._submission = submission
        self._target = target
        self._events = events
        self._looked_at = float("-inf")
        self._told: dict[str, Any] | None = None
        self._nodes: tuple[ClusterNode, ...] = ()
        self.actors: tuple[ClusterActor, ...] = ()
        """Processes of the run, as last seen."""

    def look(self, *, now: bool = False) -> None:
        """Ask the cluster, every few seconds or `now`, and tell what has changed. A cluster that fails to answer is
        asked again the next time."""
        pause = _LOOK_AT_NODES_SECONDS if self._target.address else _LOOK_SECONDS
        pause = pause if self.actors else _FIRST_LOOK_SECONDS
        if not now and time.monotonic() - self._looked_at < pause:
            return
        self._looked_at = time.monotonic()
        with suppress(NotReached, KeyError, TypeError):
            found, self.actors = self._api.nodes(), self._api.actors(self._submission)
            before = {node.id: node for node in self._nodes}
            self._nodes = tuple(steadied(node, before.get(node.id)) for node in found)
            self._tell(is_reachable=True)

    def lost(self) -> list[str]:
        """Addresses of dead machines that the run is on, or was until it ended."""
        places = {actor.node for actor in self.actors}
        return sorted({node.address for node in self._nodes if node.id in places and not node.is_alive})

    def unreachable(self) -> None:
        """Tell that the cluster does not answer."""
        self._tell(is_reachable=False)

    def _tell(self, *, is_reachable: bool) -> None:
        shown = {
            "name": self._target.name,
            "address": self._api.address,
            "is_reachable": is_reachable,
            "nodes": [node.model_dump() for node in self._nodes],
            "actors": [actor.model_dump() for actor in self.actors],
        }
        if shown != self._told:
            self._told = shown
            self._events.emit("cluster", **shown)


def steadied(node: ClusterNode, before: ClusterNode | None) -> ClusterNode:
    """A node, with its free memory as `before` while that has hardly moved."""
    last = before.free.get("memory") if before is not None else None
    now = node.free.get("memory")
    if now is None or last is None or abs(now - last) > _MEMORY_STEP * node.total["memory"]:
        return node
    return node.model_copy(update={"free": {**node.free, "memory": last}})
