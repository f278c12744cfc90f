"""Where a request comes from: the address at its connection's other end, or what trusted proxies say of it."""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Protocol

from discue.config.types import Network, Networks

Address = IPv4Address | IPv6Address

UNKNOWN: Final = "unknown"
"""The address of a peer that has none, such as one at a Unix socket."""

_REMEMBERED: Final = 4_096
_LONGEST_ELEMENT: Final = 1_024
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NEIGHBOURHOOD_BITS: Final = 64

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
    """Of a request; names are lower case."""

    def get_all(self, name: str) -> list[str]: ...


class ClientIpResolver:
    """Tells clients' addresses. Nothing that a client sends makes it fail."""

    def __init__(self, trusted: Networks) -> None:
        """Of peers and proxies in `trusted` networks the headers are believed, of nobody else."""
        self._trusted = tuple(map(_unmapped_network, trusted))
        self._is_trusted = lru_cache(_REMEMBERED)(self._look_up)

    def of(self, peer: str, headers: HeaderLookup) -> str:
        """The client's address, in its one canonical spelling: IPv4-mapped IPv6 is IPv4.

        `peer` is the other end of the connection, with its port. Behind a trusted one the headers are read from
        the right: the first address that is not trusted is the client's. What is no address ends the reading, and the
        one read last holds. Where `Forwarded` and `X-Forwarded-For` say different things the peer's own holds: a proxy
        that writes the one may pass on whatever a client wrote into the other.
        """
        address = canonical(peer)
        if not self._trusted or not self._is_trusted(address):
            return address
        forwarded, forwarded_for = headers.get_all("forwarded"), headers.get_all("x-forwarded-for")
        if not forwarded:
            return self._walk(address, _listed(forwarded_for))
        told = self._walk(address, _forwarded(forwarded))
        agreed = not forwarded_for or told == self._walk(address, _listed(forwarded_for))
        return told if agreed else address

    def _walk(self, address: str, nodes: Iterator[str]) -> str:
        """Along the proxies, the last one first."""
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
    """An address out of how it is written with a port, in brackets or bare; UNKNOWN if there is none in it."""
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
def subject_of(address: str) -> str:
    """Whom an address stands for: of IPv6 its /64, which one host has for itself."""
    if ":" not in address:
        return address
    return str(IPv6Network((address, _NEIGHBOURHOOD_BITS), strict=False))


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))


def _listed(lines: list[str]) -> Iterator[str]:
    """The addresses of X-Forwarded-For, from the right."""
    rest, comma = ",".join(lines), ","
    while comma:
        rest, comma, element = rest.rpartition(",")
        if element := element.strip(" \t"):
            yield element


def _forwarded(lines: list[str]) -> Iterator[str]:
    """What the elements of Forwarded (RFC 7239) say that they are `for`, from the right: "" where it is not said.

    Only from the right the last proxy's words are safe: a client may have begun a quotation before them.
    """
    rest = ",".join(lines)
    while rest := rest.rstrip(", \t"):
        element = _last_element(rest)
        if element is None:
            yield ""
            return
        yield _said_for(element)
        rest = rest[: len(rest) - len(element)]


def _last_element(text: str) -> str | None:
    """The shortest end of a list that is a whole element; a comma may also stand in a quotation."""
    start = len(text)
    while start > 0 and len(text) - start < _LONGEST_ELEMENT:
        start = max(text.rfind(",", 0, start), 0)
        element = text[start:].lstrip(", \t")
        if _ELEMENT.fullmatch(element):
            return element
    return None


def _said_for(element: str) -> str:
    """Of one that says it twice nothing is believed."""
    said = [_unquoted(value) for name, value in _PAIR.findall(element) if name.lower() == "for"]
    return said[0] if len(said) == 1 else ""


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
