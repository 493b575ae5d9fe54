"""A hub on this machine: speaks what lists and serves models in the protocols of Hugging Face and ModelScope."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

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
    token: str = ""
    """Who does not send it is answered that the repository is gated."""
    cuts: dict[str, int] = field(default_factory=dict)
    """File -> how often its transfer is cut half-way."""
    fails_after_cut: int = 0
    """Status of each GET of a file after the first cut; 0 goes on serving."""
    ignores_ranges: bool = False
    """Answers a Range with the whole file."""
    spoils: set[str] = field(default_factory=set)
    """Files that are sent with other bytes than announced."""
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
        if hub.token and self.headers["Authorization"] != f"Bearer {hub.token}":
            return self._send(401, {"X-Error-Code": "GatedRepo"}, b"{}")
        if path.startswith(f"/api/v1/models/{hub.repo}/repo"):
            return self._modelscope(path)
        api, files = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            return self._info(path.removeprefix(api).removeprefix("/revision/") or "main")
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
        siblings = [self._sibling(name, content) for name, content in self.hub.commits[sha].items()]
        return self._json({"id": self.hub.repo, "modelId": self.hub.repo, "sha": sha, "siblings": siblings})

    def _sibling(self, name: str, content: bytes) -> dict[str, object]:
        if "blobs" not in self.path:
            return {"rfilename": name}
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        is_large = name.endswith(".safetensors")
        return {"rfilename": name, "size": len(content), "blobId": blob} | ({"lfs": large} if is_large else {})

    def _modelscope(self, path: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        sha = self._sha(query["Revision"][0].replace("master", "main"))
        if sha is None:
            return self._send(404, {}, b"{}")
        if not path.endswith("/repo/files"):
            return self._file(sha, query["FilePath"][0])
        files = [
            {"Path": name, "Type": "blob", "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest()}
            for name, content in self.hub.commits[sha].items()
        ]
        return self._json({"Code": 200, "Data": {"Files": [*files, {"Path": "figures", "Type": "tree"}]}})

    def _file(self, revision: str, name: str) -> None:
        hub = self.hub
        sha = self._sha(revision)
        if sha is None or name not in hub.commits[sha]:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"{}")
        content = hub.commits[sha][name]
        headers = {"Accept-Ranges": "bytes"}
        status, start = 200, 0
        if name in hub.spoils:
            content = bytes(len(content))
        if self.headers["Range"] and not hub.ignores_ranges:
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
