"""Many clients of one live stream, and one that reads nothing."""

import asyncio
import socket
import time
from dataclasses import dataclass, field

import orjson
import psutil
from websockets.asyncio.client import connect

from finery.core.client import Client

_READ_NOTHING_BUFFER = 4096


@dataclass
class Crowd:
    """What the clients of one stream saw."""

    latencies: list[float] = field(default_factory=list)
    """Seconds from the writing of an event to its receipt, over all clients."""
    num_received: dict[int, int] = field(default_factory=dict)
    """By client."""
    rss_growth_mb: float = 0.0
    cpu_percent: float = 0.0
    """Of the server's process: 100 is one core."""


def follow(api: Client, token: str, job_id: int, *, clients: int, seconds: float, server: psutil.Process) -> Crowd:
    """Let clients follow a job from now on, and note when each event reaches each of them."""
    after = api.get(f"/jobs/{job_id}/metrics")["cursor"]
    return asyncio.run(_follow(api.url, token, f"/api/jobs/{job_id}/live?after={after}", clients, seconds, server))


async def _follow(url: str, token: str, path: str, clients: int, seconds: float, server: psutil.Process) -> Crowd:
    found = Crowd()
    began = time.time()
    begin = asyncio.Event()
    tasks = [asyncio.create_task(_client(url + path, token, number, begin, found)) for number in range(clients)]
    await asyncio.sleep(3)  # until all are connected and quiet
    begin.set()
    before, cpu_before = server.memory_info().rss, sum(server.cpu_times()[:2])
    await asyncio.sleep(seconds)
    found.rss_growth_mb = (server.memory_info().rss - before) / 1e6
    found.cpu_percent = 100 * (sum(server.cpu_times()[:2]) - cpu_before) / seconds
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
    if failed or len(found.num_received) < clients:
        raise SystemExit(
            f"{len(failed)} of {clients} clients failed and {len(found.num_received)} got events within "
            f"{time.time() - began:.0f} s: {failed[:1]}"
        )
    return found


async def _client(url: str, token: str, number: int, begin: asyncio.Event, found: Crowd) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    target = url.replace("http", "ws", 1)
    async with connect(target, additional_headers=headers, open_timeout=60, max_size=None, proxy=None) as stream:
        async for message in stream:
            now = time.time()
            if not begin.is_set() or '"kind":"event"' not in message[:20]:
                continue
            event = orjson.loads(message)["event"]["event"]
            if event["type"] == "metrics":
                found.latencies.append(now - event["time"])
                found.num_received[number] = found.num_received.get(number, 0) + 1


def read_nothing(url: str, token: str, job_id: int) -> socket.socket:
    """Ask for everything that a job ever reported, and take none of it while the socket is open."""
    host, port = url.removeprefix("http://").split(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ_NOTHING_BUFFER)
    made.connect((host, int(port)))
    lines = (
        f"GET /api/jobs/{job_id}/live?after=0 HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {token}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    made.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = made.recv(64)
    if b" 101 " not in answer:
        raise SystemExit(f"the server refused the slow client: {answer!r}")
    return made
