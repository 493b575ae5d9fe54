"""Connections to hosts that users name do not lead into this machine or its network."""

import socket
import ssl
import threading
from pathlib import Path

import httpx
import pytest

from finery.core import outgoing
from finery.core.errors import Forbidden, Unavailable
from tests.notifying.receivers import Receiver, certificate, receiving

PRIVATE = [
    "127.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%lo",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a9fe:a9fe",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_this_machine_and_its_network_are_not_public(address: str) -> None:
    assert not outgoing.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_public_network_are(address: str) -> None:
    assert outgoing.is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    with receiving(Receiver()) as receiver, outgoing.client(allow_private=False, timeout_seconds=5) as http:
        with pytest.raises(Forbidden, match="not of the public network.*FINERY_ALLOW_PRIVATE_ADDRESSES"):
            http.post(f"http://{host}:{receiver.port}/")

        assert receiver.taken == []


def test_a_redirect_into_the_network_is_refused_where_redirects_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(Receiver()) as inner, receiving(Receiver(answers=[(307, "")])) as outer:
        outer.headers["location"] = f"http://127.0.0.1:{inner.port}/"
        name_is(monkeypatch, {"outer.example": "127.0.0.1", "127.0.0.1": "127.0.0.1"}, public={"outer.example"})
        with outgoing.client(allow_private=False, timeout_seconds=5) as http:
            assert http.post(f"http://outer.example:{outer.port}/").status_code == 307
            assert outer.taken[0].headers["host"] == f"outer.example:{outer.port}"
            with pytest.raises(Forbidden):
                http.post(f"http://outer.example:{outer.port}/", follow_redirects=True)

        assert inner.taken == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked at and this machine when it is called."""
    with receiving(Receiver()) as receiver:
        asked: list[str] = []
        real = socket.getaddrinfo

        def turning(host: str, port: int, *rest: object, **options: object) -> object:
            asked.append(host)
            turned = "192.0.2.1" if asked.count("turning.example") == 1 else "127.0.0.1"
            return real(turned if host == "turning.example" else host, port, type=socket.SOCK_STREAM)

        monkeypatch.setattr(socket, "getaddrinfo", turning)
        monkeypatch.setattr(outgoing, "is_public", lambda address: address == "192.0.2.1")
        with outgoing.client(allow_private=False, timeout_seconds=0.3) as http, pytest.raises(httpx.TransportError):
            http.post(f"http://turning.example:{receiver.port}/")

        assert asked.count("turning.example") == 1
        assert receiver.taken == []


def test_one_private_address_among_several_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    with pytest.raises(Forbidden, match=r"10\.0\.0\.1"):
        outgoing.resolve("both.example", 80, allow_private=False)


def test_with_leave_this_machine_is_reached_and_its_certificate_is_checked_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trusted = certificate(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    serve_tls(listener, server)

    with outgoing.client(allow_private=True, timeout_seconds=5) as http:
        assert http.post(f"https://localhost:{port}/").status_code == 204
        name_is(monkeypatch, {"other.example": "127.0.0.1"}, public=set())
        with pytest.raises(httpx.ConnectError, match=r"other\.example"):
            http.post(f"https://other.example:{port}/")
    listener.close()


def test_a_proxy_of_the_environment_does_not_lead_around_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(Receiver()) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with outgoing.client(allow_private=False, timeout_seconds=5) as http, pytest.raises(Forbidden):
            http.post("http://127.0.0.1:9/")

        assert proxy.taken == []


def test_a_name_without_an_address_is_said_to_have_none() -> None:
    with pytest.raises(Unavailable, match=r"nowhere\.invalid"):
        outgoing.resolve("nowhere.invalid", 80, allow_private=False)
    with pytest.raises(Unavailable):
        outgoing.resolve("a" * 300, 80, allow_private=False)


def name_is(patch: pytest.MonkeyPatch, names: dict[str, str], *, public: set[str]) -> None:
    """Names have addresses, and those of `public` names count as such until another name is looked up."""
    real, latest = socket.getaddrinfo, [""]

    def look_up(host: str, port: int, *rest: object, **options: object) -> object:
        if host in names:
            latest[0] = host
        return real(names.get(host, host), port, type=socket.SOCK_STREAM)

    patch.setattr(socket, "getaddrinfo", look_up)
    real_check = outgoing.is_public
    patch.setattr(outgoing, "is_public", lambda address: latest[0] in public or real_check(address))


def serve_tls(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Answer every request 204 until the listener is closed."""

    def serve() -> None:
        while True:
            try:
                wire, _ = listener.accept()
                with context.wrap_socket(wire, server_side=True) as safe:
                    safe.recv(65536)
                    safe.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
