"""Connections to hosts that users name: none into this machine or its network, unless the installation allows that.

A name is resolved once, all of its addresses are checked, and the connection goes to one that was checked: a name that
changes its address in between gains nothing. The check belongs to the connection, so that a redirect that is followed
passes it as well; by default none is followed. Proxies of the environment are not used.
"""

import ipaddress
import socket
from collections.abc import Iterator

import httpx

from finery.core.errors import Forbidden, Unavailable

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def client(*, allow_private: bool, timeout_seconds: float) -> httpx.Client:
    """An HTTP client that connects as `connect` does. Its errors are httpx's own and those of `resolve`."""
    transport = _Checked(allow_private=allow_private)
    return httpx.Client(transport=transport, timeout=timeout_seconds, follow_redirects=False, trust_env=False)


def connect(host: str, port: int, *, allow_private: bool, timeout_seconds: float) -> socket.socket:
    """A TCP connection to the first address of a host that answers.

    Raises:
        Forbidden, Unavailable: as of `resolve`. OSError: none answers.
    """
    *others, last = resolve(host, port, allow_private=allow_private)
    for address in others:
        try:
            return socket.create_connection((address, port), timeout_seconds)
        except OSError:
            continue
    return socket.create_connection((last, port), timeout_seconds)


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host, in the order in which they are to be tried; at least one.

    Raises:
        Unavailable: it has none. Forbidden: one is not of the public network.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the address of {host} could not be found: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise Forbidden(
                    f"{host}{'' if host == address else f' ({address})'} is not of the public network; where that is "
                    "meant, set FINERY_ALLOW_PRIVATE_ADDRESSES=true where Finery runs"
                )
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, also behind the ways to write IPv4 within IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        within = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            within = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if within is not None:
            return is_public(str(within))
    return found.is_global and not found.is_multicast


class _Checked(httpx.BaseTransport):
    """Sends each request to an address that was checked, under the host's own name."""

    def __init__(self, *, allow_private: bool):
        self._allow_private = allow_private
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        *others, last = self._pinned(request)
        for pinned in others:
            try:
                return self._inner.handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._inner.handle_request(last)

    def close(self) -> None:
        self._inner.close()

    def _pinned(self, request: httpx.Request) -> Iterator[httpx.Request]:
        url = request.url
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        for address in resolve(host, port, allow_private=self._allow_private):
            yield httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
