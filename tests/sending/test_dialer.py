"""Connections lead to checked addresses, and nowhere else."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_address

import pytest

from discue.domain.egress import EgressPolicy, IPAddress
from discue.sending.response import SenderLimits
from tests.support.attempts import a_sender, attempt, request_to
from tests.support.scripted_server import READ, Script, ScriptedServer

GOOD: Script = (READ, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
PUBLIC_ONLY = EgressPolicy()
# One loopback address stands for the public ones, so that the test can listen on a refused one, too.
ONE_ALLOWED = EgressPolicy(allowed_networks=(IPv4Network("127.0.0.1/32"),))


class Names:
    """A resolver that returns one of its results after the other, and then the last one repeatedly."""

    def __init__(self, *answers: Sequence[str] | OSError) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return [ip_address(text) for text in answer]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0177.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]"]
)
async def test_private_literal_address_is_refused_in_every_spelling(host: str) -> None:
    names = Names(["192.0.2.1"])
    async with a_sender(policy=PUBLIC_ONLY, resolve=names) as sender:
        outcome = await attempt(sender, request_to(f"http://{host}:9/"))
    assert (outcome.error, outcome.status) == ("refused_address", 0)
    assert names.asked == []


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.1.2.3", "192.168.0.1"], ["::1"], ["::ffff:169.254.169.254"], ["64:ff9b::a00:1"]],
)
async def test_a_name_with_private_addresses_only_is_refused_by_the_rule_and_without_the_address(
    addresses: list[str],
) -> None:
    async with a_sender(policy=PUBLIC_ONLY, resolve=Names(addresses)) as sender:
        outcome = await attempt(sender, request_to("http://sneaky.example/"))
    assert outcome.error == "refused_address"
    # Nothing tells one kind of address from another, except in the log.
    assert outcome.detail == "The address is not public; the operator can allow it with `allow_private_targets`."
    assert outcome.cause


async def test_only_allowed_addresses_of_a_name_are_connected_to() -> None:
    names = Names(["127.0.0.2", "10.0.0.1", "127.0.0.1"])
    # The port is bound but not listened on, so that no other program can answer on the allowed address.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        async with (
            ScriptedServer([GOOD]) as allowed,
            ScriptedServer([GOOD], host="127.0.0.2", port=port) as refused,
            a_sender(policy=ONE_ALLOWED, resolve=names) as sender,
        ):
            to_allowed = await attempt(sender, request_to(f"http://mixed.example:{allowed.port}/"))
            to_refused = await attempt(sender, request_to(f"http://mixed.example:{refused.port}/"))
    assert to_allowed.acknowledged
    assert (to_refused.error, refused.connections) == ("connect", 0)
    assert allowed.requests[0].headers["host"] == f"mixed.example:{allowed.port}"


async def test_name_is_not_resolved_again_after_the_check() -> None:
    async with ScriptedServer([GOOD]) as server:
        names = Names(["127.0.0.1"], ["10.0.0.1"])
        async with a_sender(policy=ONE_ALLOWED, resolve=names) as sender:
            url = f"http://rebinding.example:{server.port}/"
            assert (await attempt(sender, request_to(url))).acknowledged
            assert names.asked == [("rebinding.example", server.port)]
            assert (await attempt(sender, request_to(url))).error == "refused_address"
    assert server.connections == 1


async def test_other_addresses_are_tried_after_a_failure() -> None:
    async with ScriptedServer([GOOD]) as server:
        names = Names(["127.0.0.3", "127.0.0.2", "127.0.0.1"])
        async with a_sender(resolve=names) as sender:
            url = f"http://several.example:{server.port}/"
            assert (await attempt(sender, request_to(url))).acknowledged
    assert server.connections == 1


async def test_address_that_hangs_uses_only_its_share_of_the_time() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        names = Names(["127.0.0.2", *[f"127.0.1.{number}" for number in range(1, 10)]])
        limits = SenderLimits(connect_timeout_ms=5_000)
        async with a_sender(resolve=names, limits=limits) as sender:
            outcome = await attempt(sender, request_to(f"http://half.example:{port}/"))
    # The others refuse at once: that they were asked shows in the error.
    assert outcome.error == "connect"
    assert 490 <= outcome.duration_ms < 5_000


@pytest.mark.parametrize("answer", [OSError("no such name"), []])
async def test_name_without_addresses_is_reported(answer: OSError | list[str]) -> None:
    async with a_sender(resolve=Names(answer)) as sender:
        outcome = await attempt(sender, request_to("http://nowhere.example/"))
    assert (outcome.error, outcome.status) == ("resolve", 0)


async def test_broken_resolver_is_an_internal_error() -> None:
    async def broken(host: str, port: int) -> list[IPAddress]:
        raise ZeroDivisionError

    async with a_sender(resolve=broken) as sender:
        assert (await attempt(sender, request_to("http://any.example/"))).error == "internal"


async def test_ipv6_addresses_are_connected_to() -> None:
    async with ScriptedServer([GOOD], host="::1") as server, a_sender(resolve=Names(["::1"])) as sender:
        assert (await attempt(sender, request_to(server.url))).acknowledged
        assert (await attempt(sender, request_to(f"http://six.example:{server.port}/"))).acknowledged
    assert [received.headers["host"] for received in server.requests] == [
        f"[::1]:{server.port}",
        f"six.example:{server.port}",
    ]


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async with ScriptedServer([GOOD]) as server, a_sender() as sender:
        assert (await attempt(sender, request_to(server.url))).acknowledged
        assert server.requests[0].line == "POST /hook?x=1 HTTP/1.1"
