"""A hub on this machine: speaks the part of the Hugging Face hub's protocol that names, lists and serves models."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Seen(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """What the hub holds and how it misbehaves; tests change it while it runs."""

    repo: str
    commits: dict[str, Files] = field(default_factory=dict)
    main: str = ""
    requests: list[Seen] = field(default_factory=list)
    error: tuple[int, str] | None = None
    """Status and X-Error-Code of every answer about the repository."""
    cuts: dict[str, int] = field(default_factory=dict)
    """File -> how often its transfer is cut half-way."""
    fails_after_cut: int = 0
    """Status of each GET of a file after the first cut; 0 goes on serving."""
    url: str = ""

    def commit(self, files: Files) -> str:
        """Move the branch on to a new commit."""
        self.main = hashlib.sha1(b"".join(files.values()) + str(len(self.commits)).encode()).hexdigest()
        self.commits[self.main] = files
        return self.main

    def requested(self, file: str, method: str = "GET") -> list[Seen]:
        return [seen for seen in self.requests if seen.path.endswith(f"/{file}") and seen.method == method]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the end of the block."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.hub
        hub.requests.append(Seen(self.command, path, self.headers["Range"], self.headers["Authorization"]))
        if hub.error:
            return self._send(hub.error[0], {"X-Error-Code": hub.error[1]}, b"{}")
        api, files = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            return self._info(path.removeprefix(api).removeprefix("/revision/") or "main")
        if path.startswith(f"{api}/tree/"):
            return self._tree(path.removeprefix(f"{api}/tree/"))
        if path.startswith(files):
            revision, _, name = path.removeprefix(files).partition("/")
            return self._file(revision, name)
        return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}")

    def _sha(self, revision: str) -> str | None:
        sha = self.hub.main if revision == "main" else revision
        return sha if sha in self.hub.commits else None

    def _info(self, revision: str) -> None:
        sha = self._sha(revision)
        if sha is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        siblings = [{"rfilename": name} for name in self.hub.commits[sha]]
        return self._json({"id": self.hub.repo, "modelId": self.hub.repo, "sha": sha, "siblings": siblings})

    def _tree(self, revision: str) -> None:
        sha = self._sha(revision)
        if sha is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        files = self.hub.commits[sha].items()
        return self._json([{"type": "file", "path": n, "size": len(c), "oid": _etag(c)} for n, c in files])

    def _file(self, revision: str, name: str) -> None:
        hub = self.hub
        sha = self._sha(revision)
        if sha is None or name not in hub.commits[sha]:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"{}")
        content = hub.commits[sha][name]
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if self.headers["Range"]:
            status, start = 206, int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and hub.cuts.get(name):
            hub.cuts[name] -= 1
            return self._cut(status, headers, content[start:])
        if self.command == "GET" and name in hub.cuts and hub.fails_after_cut:
            return self._send(hub.fails_after_cut, {}, b"{}")
        return self._send(status, headers, content[start:])

    def _cut(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Announce all of the body, send half of it, hang up."""
        self._head(status, headers, len(body))
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def _json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
