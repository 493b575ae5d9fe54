"""Uploads that are too large, lie about their length or break off: nothing is half-stored, and the next one works."""

import gc
import hashlib
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from finery.core.errors import TooLarge
from tests.platform import wait_for
from tests.security.conftest import Live, fetch

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


def content_of(size: int) -> bytes:
    return os.urandom(size)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Neither does a spool file of an upload that broke off."""
    before = open_files()
    yield

    def are_closed() -> bool:
        gc.collect()
        return not open_files() - before

    wait_for("the spool files to be closed", are_closed, 40)


def stored(live: Live) -> set[Path]:
    return {path for path in live.settings.objects.rglob("*") if path.is_file()}


def open_files() -> set[str]:
    """Files that this process, and so the server in it, has open in the folder for temporary files."""
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(handle))
        except OSError:
            continue
    return {link for link in links if link.startswith(tempfile.gettempdir()) and "(deleted)" in link}


def assert_clean_and_working(live: Live, before: set[Path], content: bytes) -> None:
    """Nothing is left of the attempt in the store; the same content is then taken."""
    wait_for("the rest of the upload to be gone", lambda: stored(live) == before, 40)
    digest = hashlib.sha256(content).hexdigest()
    assert fetch("GET", f"{live.url}/api/objects/{digest}", headers=live.authorization).status_code == 404
    answer = fetch("POST", f"{live.url}/api/objects", files={"file": ("a.bin", content)}, headers=live.authorization)
    assert answer.status_code == 201
    assert answer.json() == {"sha256": digest, "num_bytes": len(content)}
    assert stored(live) - before == {live.settings.objects / digest[:2] / digest}


def send(live: Live, headers: dict[str, str], *pieces: bytes, cut: bool = False) -> bytes:
    """A POST written by hand; returns what is answered, or nothing where the connection is cut before."""
    lines = {
        "Host": f"127.0.0.1:{live.port}",
        **live.authorization,
        "Content-Type": "multipart/form-data; boundary=b",
        **headers,
    }
    with socket.create_connection(("127.0.0.1", live.port), timeout=15) as wire:
        head = "POST /api/objects HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        wire.sendall(head.encode() + b"\r\n")
        for piece in pieces:
            wire.sendall(piece)
        if cut:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # an RST, no goodbye
            return b""
        return read_answer(wire)


def read_answer(wire: socket.socket) -> bytes:
    """Everything up to the end of the connection, or until nothing has come for a while after a whole answer."""
    answer = b""
    try:
        while piece := wire.recv(65536):
            answer += piece
            head, separator, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if separator and length and len(body) >= int(length[1]):
                wire.settimeout(0.3)
    except (TimeoutError, ConnectionResetError):
        return answer or b"silence"
    return answer


def test_a_file_over_the_limit_is_refused_and_says_so(live: Live, tmp_path: Path) -> None:
    before = stored(live)
    path = tmp_path / "large.bin"
    path.write_bytes(content_of(live.settings.max_upload_bytes + 1))
    with pytest.raises(TooLarge, match="larger than 1,048,576 bytes"):
        live.client.upload(path)
    assert_clean_and_working(live, before, content_of(live.settings.max_upload_bytes))


def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(live: Live) -> None:
    before = stored(live)
    answer = send(live, {"Content-Length": str(10**15)})
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too_large" in answer
    assert_clean_and_working(live, before, content_of(1000))


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "0x10", "9" * 400, "5, 7", "+5"])
def test_a_length_that_is_no_number_is_refused(live: Live, length: str) -> None:
    before = stored(live)
    answer = send(live, {"Content-Length": length}, HEAD + b"x" + TAIL)
    assert answer.split()[1] in (b"400", b"413"), answer
    assert_clean_and_working(live, before, content_of(1000))


def test_an_upload_without_a_length_is_refused(live: Live) -> None:
    before = stored(live)
    assert send(live, {}, b"").startswith(b"HTTP/1.1 413 ")
    content = content_of(5000)
    body = HEAD + content + TAIL
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert send(live, {"Transfer-Encoding": "chunked"}, chunked).startswith(b"HTTP/1.1 413 ")
    assert_clean_and_working(live, before, content)


def test_a_length_beside_chunks_smuggles_nothing(live: Live) -> None:
    """Two lengths are two opinions on where the next request begins."""
    before = stored(live)
    content = content_of(500)
    body = HEAD + content + TAIL
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    answer = send(live, {"Transfer-Encoding": "chunked", "Content-Length": "3"}, chunked)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer.split()[1] in (b"201", b"400", b"413")
    if answer.split()[1] != b"201":
        assert_clean_and_working(live, before, content)


def test_a_length_that_is_too_short_stores_nothing(live: Live) -> None:
    before = stored(live)
    content = content_of(5000)
    answer = send(live, {"Content-Length": str(len(HEAD) + 2500)}, HEAD + content + TAIL)
    assert answer.split()[1] in (b"400", b"422")
    assert_clean_and_working(live, before, content)


@pytest.mark.parametrize("sent", [0, 10, len(HEAD), len(HEAD) + 1, len(HEAD) + 400_000])
@pytest.mark.parametrize("size", [5_000, 900_000], ids=["small", "spooled"])
def test_a_connection_that_is_cut_leaves_nothing(live: Live, sent: int, size: int) -> None:
    before = stored(live)
    content = content_of(size)
    body = HEAD + content + TAIL
    send(live, {"Content-Length": str(len(body))}, body[: min(sent, len(body) - 20)], cut=True)
    assert_clean_and_working(live, before, content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--\r\n",
        HEAD,
        HEAD + b"no end",
        b"--b\r\n\r\n" + TAIL,
        b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx' + TAIL,
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nno file, a field' + TAIL,
        b"--b\r\n" + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n" + TAIL,
        (b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n') * 3000 + b"--b--\r\n",
    ],
)
def test_a_form_that_is_broken_is_refused(live: Live, body: bytes) -> None:
    before = stored(live)
    answer = send(live, {"Content-Length": str(len(body))}, body)
    assert answer.split()[1] in (b"400", b"413", b"422"), answer
    assert_clean_and_working(live, before, content_of(100))


def test_the_same_file_at_once_is_stored_once(live: Live) -> None:
    before = stored(live)
    content = content_of(300_000)
    answers: list[httpx.Response] = []

    def upload() -> None:
        files = {"file": ("a.bin", content)}
        answers.append(fetch("POST", f"{live.url}/api/objects", files=files, headers=live.authorization))

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["sha256"] for answer in answers}) == 1
    assert len(stored(live) - before) == 1
