"""Egress policy, notations of addresses, and URLs of listeners."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.egress import (
    EgressPolicy,
    EgressProxy,
    IPAddress,
    Target,
    check_target,
    host_key,
    literal_address,
    parse_target,
)
from discue.domain.errors import Unprocessable

PUBLIC_ONLY = EgressPolicy()

REFUSED_IPV4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip

REFUSED_IPV6 = [
    IPv6Network(text)
    for text in (
        "::/128", "::1/128", "100::/64", "64:ff9b:1::/48", "2001:2::/48", "2001:10::/28", "2001:20::/28",
        "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fd00:ec2::254/128", "fe80::/10", "fec0::/10",
        "ff00::/8", "4000::/3", "8000::/3", "1000::/4", "200::/7", "f000::/5",
    )
]  # fmt: skip

PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
          "126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0",
          "192.167.255.255",
          "198.17.255.255", "198.20.0.0", "203.0.114.0", "223.255.255.255", "2606:4700:4700::1111",
          "2001:4860:4860::8888", "2a00:1450::1", "2001:200::1", "3ffe::1"]  # fmt: skip


def addresses_of(networks: list[IPv4Network]) -> st.SearchStrategy[IPv4Address]:
    return st.sampled_from(networks).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
    )


def carriers_of(address: IPv4Address) -> dict[str, IPv6Address]:
    number = int(address)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | number),
        "compatible": IPv6Address(number),
        "translated": IPv6Address(0xFFFF << 48 | number),
        "NAT64": IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        "6to4": IPv6Address(0x2002 << 112 | number << 80 | 1),
        "Teredo client": IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | (number ^ 0xFFFFFFFF)),
        "Teredo server": IPv6Address(0x20010000 << 96 | number << 64 | (0x08080808 ^ 0xFFFFFFFF)),
    }


def spellings_of(address: IPv4Address) -> list[str]:
    number = int(address)
    a, b, c, d = address.packed
    return [
        f"{a}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.{d}.",
        str(number),
        f"{number:#x}",
        f"0X{number:08X}",
        f"0{number:o}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"000{a:03o}.{b}.{c:#x}.{d}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a}.{b:#x}.{number & 0xFFFF:#x}",
    ]


def refused(url: str, policy: EgressPolicy = PUBLIC_ONLY) -> str:
    with pytest.raises(Unprocessable) as caught:
        check_target(parse_target(url, "/notify_url"), policy, "/notify_url")
    (fault,) = caught.value.faults
    assert fault.pointer == "/notify_url"
    return fault.detail


@given(addresses_of(REFUSED_IPV4))
def test_refused_ipv4_address_is_refused_in_every_notation(address: IPv4Address) -> None:
    for spelling in spellings_of(address):
        assert literal_address(spelling) == address, spelling
        assert "public address" in refused(f"http://{spelling}/")


@given(addresses_of(REFUSED_IPV4))
def test_refused_ipv4_address_is_refused_inside_ipv6(address: IPv4Address) -> None:
    for carrier, carrying in carriers_of(address).items():
        assert PUBLIC_ONLY.refusal(carrying) is not None, carrier
        assert "public address" in refused(f"https://[{carrying}]/")


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_embedded_ipv4_address_decides(address: IPv4Address) -> None:
    verdict = PUBLIC_ONLY.refusal(address)
    special = address in (IPv4Address(0), IPv4Address(1))
    for carrier, carrying in carriers_of(address).items():
        if not (special and carrier == "compatible"):
            assert PUBLIC_ONLY.refusal(carrying) == verdict, carrier


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_ipv4_is_refused_exactly_in_the_ranges(address: IPv4Address) -> None:
    assert (PUBLIC_ONLY.refusal(address) is not None) == any(address in network for network in REFUSED_IPV4)


@pytest.mark.parametrize("network", [*REFUSED_IPV4, *REFUSED_IPV6], ids=str)
def test_ends_of_refused_ranges_are_refused(network: IPv4Network | IPv6Network) -> None:
    assert PUBLIC_ONLY.refusal(network[0])
    assert PUBLIC_ONLY.refusal(network[-1])


@given(st.integers(2**120, 2**128 - 1).map(IPv6Address))
def test_ipv6_outside_global_unicast_is_refused(address: IPv6Address) -> None:
    assert PUBLIC_ONLY.refusal(address) is not None or address in IPv6Network("2000::/3")


@given(st.sampled_from(REFUSED_IPV6), st.data())
def test_ipv6_inside_a_refused_range_is_refused(network: IPv6Network, data: st.DataObject) -> None:
    address = IPv6Address(data.draw(st.integers(int(network[0]), int(network[-1]))))
    assert PUBLIC_ONLY.refusal(address) is not None


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_allowed(text: str) -> None:
    assert PUBLIC_ONLY.refusal(ip_address(text)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("10.1.2.3", "private"),
        ("fd00::1", "private"),
        ("::ffff:192.168.0.1", "private"),
        ("224.0.0.1", "multicast"),
        ("2001:20::1", "reserved"),
        ("2606:4700:4700::1111%eth0", "in a zone (scoped)"),
    ],
)
def test_refusal_has_a_reason(text: str, reason: str) -> None:
    assert PUBLIC_ONLY.refusal(ip_address(text)) == reason


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "169.254.169.254", "fd00::1", "::ffff:10.0.0.1", "fe80::1%lo"])
def test_private_addresses_can_be_allowed(text: str) -> None:
    assert EgressPolicy(allow_private=True).refusal(ip_address(text)) is None


def test_only_allowed_networks_are_allowed() -> None:
    policy = EgressPolicy(allowed_networks=(ip_network("10.1.0.0/16"), ip_network("fd12::/16")))
    allowed = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::5", "1.1.1.1"]
    assert [policy.refusal(ip_address(text)) for text in allowed] == [None] * len(allowed)
    others = ["10.2.0.1", "::ffff:10.2.0.1", "fd13::5", "127.0.0.1", "169.254.169.254"]
    assert all(policy.refusal(ip_address(text)) for text in others)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("4294967295", "255.255.255.255"),
        ("10.16777215", "10.255.255.255"),
        ("１２７.０.０.１", "127.0.0.1"),
        ("127\u30020\uff0e0\uff611", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("127.0.0\u00ad.1", "127.0.0.1"),
        ("0ｘ7f000001", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1].", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::FFFF:7F00:1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("[::１]", "::1"),
    ],
)
def test_literal_address_is_read_like_a_resolver(host: str, address: str) -> None:
    assert literal_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host",
    ["", ".", "example.com", "localhost", "256.0.0.1", "1.2.3.4.5", "08.0.0.1", "0xg", "4294967296",
     "1.2.3.256", "1.16777216", "1..2", ".1", "-1", "+1", "1e3", "1 ", "0b1", "1_0", "٣.0.0.1", "::g",
     "1:2:3:", "fe80::1%", "fe80::1%a b", "127.0.0.1.example.com", "9" * 300, "a" * 300, "::ffff:0127.0.0.1"],
)  # fmt: skip
def test_names_are_not_literals(host: str) -> None:
    assert literal_address(host) is None


@given(st.text(max_size=300))
def test_any_text_is_a_literal_or_not(host: str) -> None:
    address = literal_address(host)
    assert address is None or literal_address(str(address)) == address


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.com", ("http", "example.com", 80, "example.com", "/")),
        ("https://example.com/", ("https", "example.com", 443, "example.com", "/")),
        ("HTTPS://Example.COM:8443/A?b=c", ("https", "example.com", 8443, "example.com:8443", "/A?b=c")),
        ("https://example.com:443/x", ("https", "example.com", 443, "example.com", "/x")),
        ("http://example.com:443/x", ("http", "example.com", 443, "example.com:443", "/x")),
        ("http://example.com:/x", ("http", "example.com", 80, "example.com", "/x")),
        ("http://example.com?x=1", ("http", "example.com", 80, "example.com", "/?x=1")),
        ("http://example.com./x", ("http", "example.com", 80, "example.com", "/x")),
        ("http://my_service:9000/x", ("http", "my_service", 9000, "my_service:9000", "/x")),
        ("https://bücher.example/ü?ö=ä", ("https", "xn--bcher-kva.example", 443, "xn--bcher-kva.example",
                                          "/%C3%BC?%C3%B6=%C3%A4")),
        ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443, "xn--bcher-kva.example",
                                            "/")),
        ('http://a.example/%7Ea%20b/<>"\\^`{|}', ("http", "a.example", 80, "a.example",
                                                   "/%7Ea%20b/%3C%3E%22%5C%5E%60%7B%7C%7D")),
        ("http://a.example//../x;y=1,2/@:?a[]=1&b=/?", ("http", "a.example", 80, "a.example",
                                                       "//../x;y=1,2/@:?a[]=1&b=/?")),
    ],
)  # fmt: skip
def test_url_is_parsed_to_its_target(url: str, target: tuple[str, str, int, str, str]) -> None:
    assert parse_target(url, "/notify_url") == Target(*target, literal=None)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://0x7f.1/", "127.0.0.1", "127.0.0.1"),
        ("http://１２７.1:81/", "127.0.0.1", "127.0.0.1:81"),
        ("http://[::1]/", "::1", "[::1]"),
        ("http://[0:0::1]:81/", "::1", "[::1]:81"),
        ("http://[fe80::1%25eth0]:81/", "fe80::1%eth0", "[fe80::1]:81"),
    ],
)
def test_target_of_a_literal_is_its_address(url: str, host: str, authority: str) -> None:
    target = parse_target(url, "/notify_url")
    assert (target.host, target.authority) == (host, authority)
    assert target.literal == ip_address(host)


@pytest.mark.parametrize(
    "url",
    ["", "a:b", "ftp://example.com/", "//example.com/", "/path", "example.com", "http:example.com",
     "http:/example.com",
     "http://", "http:///x", "http://?x", "http://:80/", "mailto:a@b.c", "javascript:alert(1)", "file:///etc/passwd",
     "httpſ://example.com/", "http://a.example/" + "x" * 237],
)  # fmt: skip
def test_invalid_url_is_rejected(url: str) -> None:
    assert refused(url)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://user:pass@example.com/", "credentials"),
        ("http://@example.com/", "credentials"),
        ("http://example.com\\@127.0.0.1/", "credentials"),
        ("http://example.com/#top", "fragment"),
        ("http://example.com#@127.0.0.1/", "fragment"),
        ("http://example.com/a b", "spaces"),
        (" http://example.com/", "spaces"),
        ("http://example.com/\n", "control"),
        ("http://exam\tple.com/", "control"),
        ("http://example.com/\x00", "control"),
        ("http://example.com/\u2028", "control"),
        ("http://example.com/\ud800", "control"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:8o/", "port"),
        ("http://example.com:٨٠/", "port"),
        ("http://example.com:80:80/", "port"),
        ("http://::1/", "port"),
        ("http://::1]/", "port"),
        ("http://[::1]x/", "port"),
        ("http://[example.com]/", "host"),
        ("http://[127.0.0.1]/", "host"),
        ("http://[::1%25]/", "host"),
        ("http://[]/", "host"),
        ("http://exa%6dple.com/", "host"),
        ("http://%31%32%37.0.0.1/", "host"),
        ("http://example..com/", "host"),
        ("http://.example.com/", "host"),
        ("http://example.com../", "host"),
        ("http://-a.example/", "host"),
        ("http://exa*mple.com/", "host"),
        ("http://" + "a" * 64 + ".example/", "host"),
        ("http://☃.example/", "host"),
        ("http://256.0.0.1/", "host"),
        ("http://foo.0x4/", "host"),
    ],
)  # fmt: skip
def test_error_names_the_broken_rule(url: str, rule: str) -> None:
    assert rule in refused(url)


def test_url_has_at_most_253_characters() -> None:
    longest = "http://a.example/".ljust(253, "x")
    assert len(parse_target(longest, "/liveness_url").path) == 253 - len("http://a.example")
    with pytest.raises(Unprocessable, match="/liveness_url"):
        parse_target(longest + "x", "/liveness_url")


def test_names_and_allowed_literals_are_accepted() -> None:
    for url in ("http://example.com/", "http://1.1.1.1/", "http://localhost/", "http://[2a00:1450::1]/"):
        check_target(parse_target(url, "/notify_url"), PUBLIC_ONLY, "/notify_url")
    check_target(parse_target("http://0x7f.1/", "/x"), EgressPolicy(allow_private=True), "/x")


@pytest.mark.parametrize(
    ("url", "is_direct"),
    [
        ("http://example.com/", True),
        ("https://a.b.EXAMPLE.com./", True),
        ("http://notexample.com/", False),
        ("http://com/", False),
        ("http://example.com.attacker.example/", False),
        ("http://10.1.2.3:8080/", True),
        ("http://0x0a.66051/", True),
        ("http://11.1.2.3/", False),
        ("http://[fd00::1]/", True),
        ("http://[::1]/", False),
    ],
)
def test_proxy_is_bypassed_by_names_with_their_subdomains_and_by_networks(url: str, *, is_direct: bool) -> None:
    proxy = EgressProxy(parse_target("http://proxy.example:3128", ""), b"proxy-authorization: hunter2\r\n")
    direct = ("example.com", ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    policy = EgressPolicy(proxy=proxy, direct=direct)
    assert policy.proxy_of(parse_target(url, "")) == (None if is_direct else proxy)
    assert EgressPolicy(direct=direct).proxy_of(parse_target(url, "")) is None
    assert "hunter2" not in repr(policy)


@pytest.mark.parametrize(
    "hostname",
    ["a.b", "127.0.0.1", "0x7f.1", "[::1]", "fe80::1%eth0", "*.example.com", "example.com:443", "https://example.com",
     "user@example.com", "example.com/path", "example.com\n", "example.123", "a." * 126 + "ab"],
)  # fmt: skip
def test_invalid_dns_name_has_no_host_key(hostname: str) -> None:
    assert host_key(hostname) is None


@pytest.mark.parametrize("hostname", ["EXAMPLE.com.", "bücher.example", "_dmarc.example.com", "localhost"])
def test_host_key_is_the_host_of_a_listener_url(hostname: str) -> None:
    assert host_key(hostname) == parse_target(f"https://{hostname}/", "/url").host


hosts = st.text(st.sampled_from("aé1.０。-_xX%[]:@\u00ad\ufe0f/?#ß☃"), max_size=20)


@given(st.sampled_from(["http://", "https://", ""]), st.text(max_size=60) | hosts)
def test_any_text_is_a_target_or_rejected(scheme: str, rest: str) -> None:
    target = target_or_none(scheme + rest)
    assert target is None or sent_safely(target)
    assert target is None or target.literal == literal_address(target.host)


def target_or_none(url: str) -> Target | None:
    try:
        return parse_target(url, "/x")
    except Unprocessable:
        return None


def sent_safely(target: Target) -> bool:
    """Return whether the text cannot end a request line, a header or a host early."""
    text = target.host + target.authority + target.path
    literal: IPAddress | None = target.literal
    plain_host = literal is not None or not set(target.host) & set("/?#@[]:%")
    return text.isascii() and text.isprintable() and " " not in text and plain_host and target.path.startswith("/")
