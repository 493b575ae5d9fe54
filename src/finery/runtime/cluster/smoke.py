"""`python -m finery.runtime.cluster.smoke OUT`: a Ray job that shows that a cluster works; writes what it saw to OUT.

Two actors hold an accelerator each, where there are two (one, where there is one), and add up numbers over gloo.
"""

import json
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


class Rank:
    """One process of a group that adds up numbers."""

    def address(self) -> tuple[str, int]:
        """Where the group can meet: this host, at a port that is free."""
        ray: Any = import_module("ray")
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def add(self, rank: int, num: int, host: str, port: int) -> dict[str, Any]:
        """Add this process's number, its rank + 1, to the others'; returns the sum and what it saw around it."""
        torch: Any = import_module("torch")
        dist: Any = import_module("torch.distributed")
        os.environ.update({"MASTER_ADDR": host, "MASTER_PORT": str(port)})
        dist.init_process_group("gloo", rank=rank, world_size=num)
        value = torch.tensor([float(rank + 1)])
        dist.all_reduce(value)
        dist.destroy_process_group()
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
        return {"sum": value.item(), "device": device, "pid": os.getpid()}


def main(out: Path) -> int:
    """Run the actors and write what they saw."""
    ray: Any = import_module("ray")
    ray.init()
    num = min(2, int(ray.cluster_resources().get("GPU", 0)))
    actors = [ray.remote(num_gpus=1)(Rank).remote() for _ in range(num)]
    host, port = ray.get(actors[0].address.remote())
    seen = ray.get([actor.add.remote(rank, num, host, port) for rank, actor in enumerate(actors)])
    out.write_text(json.dumps({"ray": ray.__version__, "ranks": seen}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
