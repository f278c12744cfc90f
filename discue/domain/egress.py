"""Egress: where requests may be sent to, the proxy they go through, and how the URL of a listener is parsed."""

import re
import stringprep
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import quote

import idna
import msgspec

from discue.domain.errors import Unprocessable, invalid

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# From the IANA special-purpose address registries (RFC 6890), plus addresses of cloud metadata services.
# `is_global` covers fewer ranges, and differs between Python versions. The first range with an address decides.
_REFUSED = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers (CGNAT)"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud metadata service"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    # IPv6 except global unicast (2000::/3). Addresses that embed an IPv4 address are not looked up here.
    ("::/3", "reserved"),
    ("4000::/2", "reserved"),
    ("8000::/1", "reserved"),
)
_REASONS = tuple((ip_network(text), reason) for text, reason in _REFUSED)

_NAT64 = IPv6Network("64:ff9b::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_EMBEDS_IPV4_AT_END = (_NAT64, _MAPPED, _TRANSLATED, _COMPATIBLE)
_SINGLE_ADDRESSES = {IPv6Address("::"): "unspecified", IPv6Address("::1"): "loopback"}


PrivateTargets = Literal["all", "some", "none"]
"""Addresses that are allowed of those that are not public."""


class Target(msgspec.Struct, frozen=True):
    """A parsed URL, ready for a request."""

    scheme: str
    host: str
    """Name to resolve, connect to, and verify in TLS."""
    port: int
    authority: str
    """Value of the Host header."""
    path: str
    """Request target, query included."""
    literal: IPAddress | None
    """The address if the host is one, in any notation; None if it is a name."""


class EgressProxy(msgspec.Struct, frozen=True):
    """The HTTP proxy that requests go through."""

    target: Target
    header: bytes = b""
    """The header line with the credentials; empty if there are none."""

    def __repr__(self) -> str:
        return f"EgressProxy({self.target.authority!r})"


class EgressPolicy(msgspec.Struct, frozen=True):
    """Addresses that the operator allows in addition to public ones, and the proxy that requests go through."""

    allow_private: bool = False
    """Allow every address."""
    allowed_networks: tuple[IPNetwork, ...] = ()
    proxy: EgressProxy | None = None
    direct: tuple[IPNetwork | str, ...] = ()
    """Networks, and names with their subdomains, that requests go to without the proxy."""

    def proxy_of(self, target: Target) -> EgressProxy | None:
        """Return the proxy for requests to the target; None if they go directly. Names are compared, not resolved."""
        if self.proxy is None:
            return None
        literal, name = target.literal, f".{target.host}"
        is_direct = any(
            name.endswith(f".{each}") if isinstance(each, str) else literal is not None and literal in each
            for each in self.direct
        )
        return None if is_direct else self.proxy

    @property
    def private_targets(self) -> PrivateTargets:
        if self.allow_private:
            return "all"
        return "some" if self.allowed_networks else "none"

    def refusal(self, address: IPAddress) -> str | None:
        """Return why requests to `address` are refused, None if they are allowed.

        For an IPv6 address that embeds an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo) the
        embedded one decides, because that is where the packets go.
        """
        if self.allow_private or any(address in network for network in self.allowed_networks):
            return None
        if isinstance(address, IPv4Address):
            return _refusal_of(address)
        # A zone names an interface of this machine, so the address is not a public one.
        if address.scope_id is not None:
            return "in a zone (scoped)"
        embedded = _embedded(address)
        if not embedded:
            return _SINGLE_ADDRESSES.get(address) or _refusal_of(address)
        return next((reason for inner in embedded if (reason := self.refusal(inner))), None)

    def withholds(self, tried: str) -> bool:
        """Return whether clients may not see responses from this address and port; "" means that none was tried."""
        return bool(tried) and self.refusal(ip_address(tried.rpartition(":")[0].strip("[]"))) is not None


PUBLIC_ADDRESSES: Final = EgressPolicy()
"""The default egress policy: public addresses only."""


def _refusal_of(address: IPAddress) -> str | None:
    reason = next((reason for network, reason in _REASONS if address in network), None)
    # `is_global` adds ranges that were registered after this table was written.
    return reason or (None if address.is_global else "not public")


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the embedded IPv4 addresses: two for Teredo (server and client), none for most."""
    # `::` and `::1` lie in the range of IPv4-compatible addresses, but embed none.
    if address in _SINGLE_ADDRESSES:
        return ()
    if any(address in network for network in _EMBEDS_IPV4_AT_END):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    return address.teredo or ()


# Resolvers accept numeric hosts in many notations: `http://0x7f.1/` is 127.0.0.1. They must be recognized as addresses
# before the policy is applied, or it could be bypassed.
_DOTS = str.maketrans({"\u3002": "."})
_ZONED = re.compile(r"([0-9A-Fa-f:.]+)%([A-Za-z0-9._~-]+)")
_NUMBER = re.compile(r"0[xX]([0-9A-Fa-f]*)|([0-9]+)")
# Longer texts are no names either, and converting their digits would be slow.
_MAX_LITERAL_CHARACTERS = 255


def literal_address(host: str) -> IPAddress | None:
    """Return the address that a resolver reads in `host`; None if it is a name.

    Accepts the notations of `inet_aton` (one to four parts; decimal, octal or hexadecimal), IPv6 with or without
    brackets and zone, a trailing dot, and characters that IDNA maps to digits and dots.
    """
    if len(host) > _MAX_LITERAL_CHARACTERS:
        return None
    plain = (host if host.isascii() else _mapped(host)).removesuffix(".")
    return _ipv6(plain.removeprefix("[").removesuffix("]")) if ":" in plain else _ipv4(plain)


def _mapped(host: str) -> str:
    """Apply the mappings of Nameprep (RFC 3491): remove some characters, and map others to ASCII."""
    kept = "".join(character for character in host if not stringprep.in_table_b1(character))
    return unicodedata.normalize("NFKC", kept).translate(_DOTS)


def _ipv6(text: str) -> IPv6Address | None:
    # URLs encode the percent sign before a zone (RFC 6874).
    text = text.replace("%25", "%", 1)
    if "%" in text and _ZONED.fullmatch(text) is None:
        return None
    try:
        return IPv6Address(text)
    except AddressValueError:
        return None


def _ipv4(text: str) -> IPv4Address | None:
    # As in inet_aton, the last part fills all remaining bytes: 127.1 is 127.0.0.1.
    numbers = [_number(part) for part in text.split(".", 4)]
    *leading, last = numbers
    if len(leading) > 3 or last is None or last >= 1 << 8 * (4 - len(leading)):
        return None
    address = last
    for index, number in enumerate(leading):
        if number is None or number > 255:
            return None
        address |= number << 8 * (3 - index)
    return IPv4Address(address)


def _number(part: str) -> int | None:
    match = _NUMBER.fullmatch(part)
    if match is None:
        return None
    hexadecimal, digits = match.groups()
    if digits is None:
        return int(hexadecimal or "0", 16)
    # A leading zero means octal.
    if digits.startswith("0") and len(digits) > 1:
        return int(digits, 8) if not set(digits) & {"8", "9"} else None
    return int(digits)


_URL = re.compile(r"(https?)://([^/?]*)([^?]*)(.*)", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_URL_LENGTHS = range(4, 254)
_HOST_LENGTH = 253
_HOSTNAME_LENGTHS = range(4, 254)
_PORTS = range(1, 65_536)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Sent unencoded, as browsers and common clients do. Includes the percent sign: the URL may be encoded already.
_UNENCODED = "!$%&'()*+,/:;=?@[]~"


def parse_target(url: str, pointer: str) -> Target:
    """Parse the URL of a listener. Raises Unprocessable with `pointer` if it is invalid.

    It must be an absolute http or https URL of 4 to 253 characters, without credentials, fragment, spaces and control
    characters.
    """
    if len(url) not in _URL_LENGTHS:
        raise invalid(pointer, "must have 4 to 253 characters")
    if " " in url or not url.isprintable():
        raise invalid(pointer, "must not contain spaces or control characters")
    if "#" in url:
        raise invalid(pointer, "must not have a fragment")
    match = _URL.fullmatch(url)
    if match is None:
        raise invalid(pointer, "must be an absolute http or https URL")
    scheme, authority, path, query = match.groups()
    if "@" in authority:
        raise invalid(pointer, "must not contain credentials")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise invalid(pointer, "must have a valid host and port")
    host_text, port_text = match.groups()
    default_port = _DEFAULT_PORTS[scheme.lower()]
    port = int(port_text) if port_text else default_port
    if port not in _PORTS:
        raise invalid(pointer, "must have a port from 1 to 65535")
    # The Host header has the normalized form, without zone: it must name the host that was checked.
    host, literal = _host(host_text, pointer)
    shown = f"[{host.partition('%')[0]}]" if isinstance(literal, IPv6Address) else host
    if port != default_port:
        shown = f"{shown}:{port}"
    return Target(scheme.lower(), host, port, shown, quote((path or "/") + query, safe=_UNENCODED), literal)


def check_target(target: Target, policy: EgressPolicy, pointer: str) -> None:
    """Raise Unprocessable if the host is a literal address that the policy refuses."""
    if target.literal is not None and policy.refusal(target.literal) is not None:
        raise refused_address(pointer)


def refused_address(pointer: str) -> Unprocessable:
    """Return the error for a URL whose host has no address that requests may be sent to.

    It has one sentence for every class of addresses: clients must not learn what a name resolves to in the network.
    """
    rule = "must have a public address; the operator can allow others with `allow_private_targets`"
    return invalid(pointer, rule, code="address_refused")


def host_key(hostname: str) -> str | None:
    """Return the normalized DNS name, as in `Target.host`; None for an address or an invalid name."""
    if len(hostname) not in _HOSTNAME_LENGTHS or not hostname.isprintable():
        return None
    try:
        name, literal = _host(hostname, "/hostname")
    except Unprocessable:
        return None
    return name if literal is None else None


def _host(text: str, pointer: str) -> tuple[str, IPAddress | None]:
    """Return the host to connect to, and its address if it is a literal."""
    literal = literal_address(text) if text.startswith("[") else None
    if literal is None:
        name = _ascii_host(text, pointer)
        # IDNA may have mapped the characters to an address.
        literal = literal_address(name)
        if literal is None:
            # A host that ends in a number must be an address (WHATWG URL).
            if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
                raise invalid(pointer, "must have a valid host")
            return name, None
    return str(literal), literal


def _ascii_host(host: str, pointer: str) -> str:
    """Return the name in the form of DNS: lower case, punycode, no trailing dot."""
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            raise invalid(pointer, "must have a valid host") from error
    name = host.removesuffix(".").lower()
    if len(name) > _HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise invalid(pointer, "must have a valid host")
    return name
