"""A judge on this machine: a real server with OpenAI's chat interface, whose answers a test writes."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


def said(text: str) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Judge:
    """A server on this machine whose answers a test writes."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.reply: Callable[[str, int], Reply] = lambda question, number: said("Score: 5")
        """From the question and how many times it was asked before."""
        self._now = 0
        self._lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][0]["content"]
                with judge._lock:
                    number = sum(one["messages"][0]["content"] == question for one in judge.asked)
                    judge.asked.append({**body, "path": self.path})
                    judge.keys.append(self.headers["Authorization"])
                    judge._now += 1
                    judge.most_at_once = max(judge.most_at_once, judge._now)
                try:
                    status, headers, content = judge.reply(question, number)
                finally:
                    with judge._lock:
                        judge._now -= 1
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    return

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RawServer:
    """A server on this machine that reads a request and says whatever bytes a test has it say."""

    def __init__(self, say: Callable[[socket.socket, bytes], None]):
        self._say = say
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._say(connection, connection.recv(1 << 16))

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
