"""The IP address of a client: the peer of the connection, or what trusted proxies forward."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Protocol

from discue.config.types import Network, Networks
from discue.observability.logs import Log

Address = IPv4Address | IPv6Address

UNKNOWN: Final = "unknown"
"""The address of a peer without one, such as a Unix socket."""

_REMEMBERED: Final = 4_096
_LONGEST_ELEMENT: Final = 1_024
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_WARNED_SECONDS: Final = 3_600.0
_WARNED_SUBJECTS: Final = 20
_HINT: Final = (
    "If this is your proxy, add its network to trusted_proxies. Until then, all its clients share one address."
)

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_ZONE = r"(?:%[A-Za-z0-9._~-]+)?"
_NODE: Final = re.compile(rf"\[([0-9A-Fa-f:.]+){_ZONE}\]{_PORT}|([0-9.]+){_PORT}|([0-9A-Fa-f:.]+){_ZONE}")

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PLAIN = r'[^\s",;]*'
_PAIR: Final = re.compile(rf"({_WORD})=({_QUOTED}|{_PLAIN})")
_ELEMENT: Final = re.compile(rf"{_PAIR.pattern}(?:[ \t]*;[ \t]*{_PAIR.pattern})*")
_ESCAPED: Final = re.compile(r"\\(.)")


class HeaderLookup(Protocol):
    """The headers of a request, with names in lower case."""

    def get_all(self, name: str) -> list[str]: ...

    def __contains__(self, name: str, /) -> bool: ...


class UntrustedProxies:
    """Warns about peers that forward addresses although they are not trusted: at most 20 subjects in an hour."""

    def __init__(self, log: Log, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._warned: set[str] = set()
        self._until = 0.0

    def note(self, address: str) -> None:
        """Log a warning, unless one about the address or its network was logged in this hour."""
        now = self._monotonic()
        if now >= self._until:
            self._warned, self._until = set(), now + _WARNED_SECONDS
        subject = subject_of(address)
        # Any client can send the headers, so their warnings must not fill the disk.
        if subject not in self._warned and len(self._warned) < _WARNED_SUBJECTS:
            self._warned.add(subject)
            self._log.warning("proxy_not_trusted", client=address, hint=_HINT)


class ClientIpResolver:
    """Determines the addresses of clients. Malformed headers never raise."""

    def __init__(self, trusted: Networks, untrusted: UntrustedProxies | None = None) -> None:
        """Headers are trusted only from peers and proxies in `trusted` networks. `untrusted` gets other senders."""
        self._trusted = tuple(map(_unmapped_network, trusted))
        self._untrusted = untrusted
        self._is_trusted = lru_cache(_REMEMBERED)(self._look_up)

    def of(self, peer: str, headers: HeaderLookup) -> str:
        """Return the client's address in canonical form; IPv4-mapped IPv6 becomes IPv4. `peer` may have a port.

        Behind a trusted peer the headers are read from the right, and the first untrusted address is the client's.
        Reading stops at an element without an address; the address before it is used. If `Forwarded` and
        `X-Forwarded-For` disagree, the peer's address is used: a proxy that writes one of them may pass on a forged
        value of the other.
        """
        address = canonical(peer)
        if not self._trusted or not self._is_trusted(address):
            if self._untrusted is not None and ("x-forwarded-for" in headers or "forwarded" in headers):
                self._untrusted.note(address)
            return address
        forwarded, forwarded_for = headers.get_all("forwarded"), headers.get_all("x-forwarded-for")
        if not forwarded:
            return self._walk(address, _listed(forwarded_for))
        client = self._walk(address, _forwarded(forwarded))
        agreed = not forwarded_for or client == self._walk(address, _listed(forwarded_for))
        return client if agreed else address

    def is_proxy(self, address: str) -> bool:
        """Whether an address in canonical form is that of a trusted proxy."""
        return bool(self._trusted) and self._is_trusted(address)

    def _walk(self, address: str, nodes: Iterator[str]) -> str:
        """Return the first untrusted address, following the proxies from the last one."""
        for node in nodes:
            before = canonical(node)
            if before == UNKNOWN:
                return address
            address = before
            if not self._is_trusted(address):
                return address
        return address

    def _look_up(self, address: str) -> bool:
        if address == UNKNOWN:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._trusted)


@lru_cache(_REMEMBERED)
def canonical(node: str) -> str:
    """Return the address in a node such as `[::1]:80`. UNKNOWN if it contains no address."""
    match = _NODE.fullmatch(node)
    if match is None:
        return UNKNOWN
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return UNKNOWN
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(_REMEMBERED)
def subject_of(address: str, bits: int = 64) -> str:
    """Return the subject of rate limits and lockouts: an IPv4 address, or the network of an IPv6 address, a /64."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, bits), strict=False))


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))


def _listed(lines: list[str]) -> Iterator[str]:
    """Yield the elements of X-Forwarded-For, from the right."""
    rest, comma = ",".join(lines), ","
    while comma:
        rest, comma, element = rest.rpartition(",")
        if element := element.strip(" \t"):
            yield element


def _forwarded(lines: list[str]) -> Iterator[str]:
    """Yield the `for` parameters of Forwarded (RFC 7239), from the right; "" if an element has none.

    Only reading from the right is safe: a client may have opened a quotation before the elements of the proxies.
    """
    rest = ",".join(lines)
    while rest := rest.rstrip(", \t"):
        element = _last_element(rest)
        if element is None:
            yield ""
            return
        said = [value for name, value in _PAIR.findall(element) if name.lower() == "for"]
        # An element that has it twice is ambiguous.
        node = said[0] if len(said) == 1 else ""
        yield _ESCAPED.sub(r"\1", node[1:-1]) if node.startswith('"') else node
        rest = rest[: len(rest) - len(element)]


def _last_element(text: str) -> str | None:
    """Return the shortest suffix that is a complete element: a comma may also be part of a quoted string."""
    start = len(text)
    while start > 0 and len(text) - start < _LONGEST_ELEMENT:
        start = max(text.rfind(",", 0, start), 0)
        element = text[start:].lstrip(", \t")
        if _ELEMENT.fullmatch(element):
            return element
    return None
