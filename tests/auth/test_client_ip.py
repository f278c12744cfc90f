from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.auth.authenticator import sign_in_subject
from discue.auth.client_ip import UNKNOWN, ClientIpResolver, UntrustedProxies, canonical, subject_of
from discue.observability.logs import Log


class Lines:
    """The headers of a request, line by line."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self._lines = lines

    def get_all(self, name: str) -> list[str]:
        return [value for known, value in self._lines if known == name]

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _ in self._lines)


def forwarded(*values: str) -> Lines:
    return Lines(*(("forwarded", value) for value in values))


def forwarded_for(*values: str) -> Lines:
    return Lines(*(("x-forwarded-for", value) for value in values))


NOTHING = Lines()
PROXIES = ClientIpResolver((ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")))
PEER = "10.0.0.1:4711"

addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)
untrusted = addresses.filter(lambda address: not _is_proxy(address))
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)


def _is_proxy(address: IPv4Address | IPv6Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain in ip_network("10.0.0.0/8") or plain in ip_network("2001:db8:1::/48")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("192.0.2.1:_hidden", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("_hidden", UNKNOWN),
        ("unknown", UNKNOWN),
        ("", UNKNOWN),
        ("192.0.2.256", UNKNOWN),
        ("192.0.2.01", UNKNOWN),
        ("192.0.2.1:123456", UNKNOWN),
        ("[192.0.2.1", UNKNOWN),
        ("example.com", UNKNOWN),
        ("/run/discue.sock", UNKNOWN),
        ("192.0.2.1\n", UNKNOWN),
    ],
)
def test_address_has_one_canonical_form(written: str, address: str) -> None:
    assert canonical(written) == address


@given(addresses, st.integers(0, 65_535))
def test_peer_of_the_connection_is_the_client(address: IPv4Address | IPv6Address, port: int) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    plain = getattr(address, "ipv4_mapped", None) or address
    assert ClientIpResolver(()).of(f"{host}:{port}", NOTHING) == str(plain)


@given(untrusted, st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_headers_of_an_untrusted_peer_are_ignored(
    peer: IPv4Address | IPv6Address, first: Sequence[str], second: Sequence[str]
) -> None:
    headers = Lines(*(("forwarded", line) for line in first), *(("x-forwarded-for", line) for line in second))
    assert PROXIES.of(str(peer), headers) == PROXIES.of(str(peer), NOTHING) == canonical(str(peer))


@given(untrusted, texts)
def test_forged_headers_are_ignored_behind_a_trusted_proxy(client: IPv4Address | IPv6Address, written: str) -> None:
    node = f'"[{client}]:1"' if client.version == 6 else str(client)
    for sent in (forwarded(f"{written}, for={node}"), forwarded(written, f"for={node};proto=https")):
        assert PROXIES.of(PEER, sent) == canonical(str(client))
    for sent in (forwarded_for(f"{written}, {client}"), forwarded_for(written, str(client))):
        assert PROXIES.of(PEER, sent) == canonical(str(client))


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_arbitrary_headers_never_raise(first: Sequence[str], second: Sequence[str]) -> None:
    for headers in (
        forwarded(*first),
        forwarded_for(*second),
        Lines(*(("forwarded", line) for line in first), *(("x-forwarded-for", line) for line in second)),
    ):
        ip_address(PROXIES.of(PEER, headers))


@given(untrusted, st.lists(st.sampled_from(["10.1.2.3", "10.9.9.9", "2001:db8:1::7"]), max_size=4))
def test_trusted_proxies_are_skipped_from_the_right(client: IPv4Address | IPv6Address, between: Sequence[str]) -> None:
    listed = ", ".join(["203.0.113.99", str(client), *between])
    assert PROXIES.of(PEER, forwarded_for(listed)) == canonical(str(client))
    elements = [f'for="{_quoted(node)}"' for node in ("203.0.113.99", str(client), *between)]
    assert PROXIES.of(PEER, forwarded(", ".join(elements))) == canonical(str(client))
    assert PROXIES.of(PEER, forwarded(*elements)) == canonical(str(client))


def _quoted(node: str) -> str:
    return f"[{node}]" if ":" in node else node


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        (NOTHING, "10.0.0.1"),
        (forwarded_for(""), "10.0.0.1"),
        (forwarded_for("192.0.2.1"), "192.0.2.1"),
        (forwarded_for(" 192.0.2.1 ,\t10.0.0.2 "), "192.0.2.1"),
        (forwarded_for("192.0.2.1", "10.0.0.2"), "192.0.2.1"),
        (forwarded_for("192.0.2.1,,10.0.0.2,"), "192.0.2.1"),
        (forwarded_for("10.0.0.3, 10.0.0.2"), "10.0.0.3"),
        (forwarded_for("192.0.2.1, garbage, 10.0.0.2"), "10.0.0.2"),
        (forwarded_for("192.0.2.1, ::ffff:10.0.0.2"), "192.0.2.1"),
        (forwarded_for("[2001:db8::1]:4711"), "2001:db8::1"),
        (forwarded('for="[2001:db8::1]:4711"'), "2001:db8::1"),
        (forwarded("For=192.0.2.1;Proto=https;By=10.0.0.1"), "192.0.2.1"),
        (forwarded("proto=https ; for=192.0.2.1"), "192.0.2.1"),
        (forwarded('for="192.0.\\2.1"'), "192.0.2.1"),
        (forwarded("for=192.0.2.1, for=10.0.0.2"), "192.0.2.1"),
        (forwarded("for=192.0.2.1", "for=10.0.0.2;by=10.0.0.1"), "192.0.2.1"),
        (forwarded("for=192.0.2.1, for=_hidden, for=10.0.0.2"), "10.0.0.2"),
        (forwarded("for=192.0.2.1, for=unknown"), "10.0.0.1"),
        (forwarded("for=192.0.2.1, by=10.0.0.2"), "10.0.0.1"),
        (forwarded("for=192.0.2.1;for=192.0.2.2"), "10.0.0.1"),
        (forwarded('for=203.0.113.1;host="a, for=6.6.6.6", for=192.0.2.1;host="b,c;for=7.7.7.7"'), "192.0.2.1"),
        (forwarded('for=192.0.2.1;host="a,for=6.6.6.6;x=\\""'), "192.0.2.1"),
        (forwarded('for="unfinished, for=192.0.2.1'), "192.0.2.1"),
        (forwarded("nonsense"), "10.0.0.1"),
        (forwarded(", ,"), "10.0.0.1"),
        (forwarded("for=" + "1" * 5_000), "10.0.0.1"),
        (forwarded('for="' + "," * 5_000), "10.0.0.1"),
    ],
)
def test_headers_of_a_trusted_peer_are_used(headers: Lines, address: str) -> None:
    assert PROXIES.of(PEER, headers) == address


def test_both_headers_must_agree() -> None:
    """A proxy that writes one of them may pass on a client's own words in the other."""
    both = Lines(("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "6.6.6.6, 192.0.2.1"))
    apart = Lines(("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.2"))
    assert PROXIES.of(PEER, both) == "192.0.2.1"
    assert PROXIES.of(PEER, apart) == "10.0.0.1"


def test_trusted_network_can_be_ipv4_mapped() -> None:
    proxies = ClientIpResolver((ip_network("::ffff:10.0.0.0/104"),))
    assert proxies.of("[::ffff:10.0.0.1]:80", forwarded_for("192.0.2.1")) == "192.0.2.1"


def test_peer_without_an_address_is_not_trusted() -> None:
    everybody = ClientIpResolver((ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert everybody.of("unix:/run/discue.sock", forwarded_for("192.0.2.1")) == UNKNOWN


@given(st.integers(2**64, 2**128 - 1), st.integers(0, 2**64 - 1))
def test_ipv6_64_network_is_one_subject(number: int, host: int) -> None:
    address = IPv6Address(number)
    neighbour = IPv6Address(int(address) >> 64 << 64 | host)
    subject = subject_of(str(address))
    assert subject.endswith("/64")
    assert IPv6Network(subject).supernet_of(IPv6Network(address))
    assert subject_of(str(neighbour)) == subject


@given(st.integers(2**80, 2**128 - 1), st.integers(0, 2**80 - 1))
def test_ipv6_48_network_is_one_subject_of_sign_ins(number: int, host: int) -> None:
    subject = sign_in_subject(str(IPv6Address(number)))
    assert subject.address.endswith("/48")
    assert subject == sign_in_subject(str(IPv6Address(number >> 80 << 80 | host)))
    assert subject != sign_in_subject(str(IPv6Address(number ^ 1 << 80)))


@given(st.ip_addresses(v=4))
def test_ipv4_address_is_its_own_subject(address: IPv4Address) -> None:
    assert subject_of(str(address)) == str(address)
    assert sign_in_subject(str(address)).address == str(address)
    assert subject_of(canonical(f"::ffff:{address}")) == str(address)


def test_unknown_address_is_a_subject() -> None:
    assert subject_of(UNKNOWN) == UNKNOWN


class Warnings(Log):
    """A log that collects the peers in warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[object] = []
        self.seconds = 0.0

    def warning(self, event: str, /, **fields: object) -> None:
        assert event == "proxy_not_trusted"
        assert "trusted_proxies" in str(fields["hint"])
        self.peers.append(fields["client"])


def warning_resolver() -> tuple[ClientIpResolver, Warnings]:
    log = Warnings()
    return ClientIpResolver((ip_network("10.0.0.0/8"),), UntrustedProxies(log, lambda: log.seconds)), log


def test_untrusted_peer_that_forwards_is_reported_once_an_hour() -> None:
    proxies, log = warning_resolver()
    for sent in (forwarded("for=192.0.2.1"), forwarded_for("192.0.2.1"), forwarded_for("192.0.2.2")):
        assert proxies.of("198.51.100.1:80", sent) == "198.51.100.1"
    assert log.peers == ["198.51.100.1"]

    log.seconds = 3_599.0
    proxies.of("198.51.100.1:81", forwarded_for("192.0.2.1"))
    assert log.peers == ["198.51.100.1"]
    log.seconds = 3_600.0
    proxies.of("198.51.100.1:81", forwarded_for("192.0.2.1"))
    assert log.peers == ["198.51.100.1"] * 2


def test_trusted_proxies_and_direct_clients_are_not_reported() -> None:
    proxies, log = warning_resolver()
    proxies.of("10.0.0.1:80", forwarded_for("192.0.2.1"))
    proxies.of("198.51.100.1:80", NOTHING)
    assert not log.peers


def test_reports_are_by_network_and_at_most_20_an_hour() -> None:
    proxies, log = warning_resolver()
    for host in range(1, 4):
        proxies.of(f"[2001:db8::{host}]:80", forwarded_for("192.0.2.1"))
    assert log.peers == ["2001:db8::1"]
    for host in range(1, 100):
        proxies.of(f"198.51.100.{host}:80", forwarded_for("192.0.2.1"))
    assert len(log.peers) == 20

    log.seconds = 3_600.0
    proxies.of("198.51.100.99:80", forwarded_for("192.0.2.1"))
    assert log.peers[20:] == ["198.51.100.99"]
