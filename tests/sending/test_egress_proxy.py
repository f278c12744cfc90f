"""Requests through an HTTP proxy: what it gets, which connections are reused, and which failures are the proxy's."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import pytest
from msgspec.structs import replace

from discue.domain.attempts import Outcome, visible_request_headers
from discue.domain.egress import EgressPolicy, EgressProxy, IPAddress, parse_target
from discue.sending.endpoint_auth import TOKEN_BYTES, AccessTokens, AuthorizingSender
from discue.sending.fetch import Fetcher
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from tests.sending.test_endpoint_auth import grant_to
from tests.sending.test_endpoint_auth import token as token_response
from tests.support.attempts import MovableClock, a_sender, attempt, begin, request_to
from tests.support.authority import server_context, trusting_context
from tests.support.forward_proxy import CREDENTIALS, ForwardProxy, proxy_at
from tests.support.ports import free_port
from tests.support.scripted_server import CLOSE, HANG, READ, READ_HEAD, RESET, Script, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GOOD: Script = (READ, OK) * 50
HOST = "listener.example"
SCHEMES = ("http", "https")


async def resolves_nothing(host: str, port: int) -> Sequence[IPAddress]:
    raise AssertionError(f"{host}:{port} was looked up")


async def resolves_nowhere(_host: str, _port: int) -> Sequence[IPAddress]:
    raise OSError


def through(port: int, **changes: object) -> EgressPolicy:
    return replace(EgressPolicy(proxy=proxy_at(port)), **changes)


def url_of(server: ScriptedServer, host: str = HOST) -> str:
    return f"{'https' if server.tls else 'http'}://{host}:{server.port}/hook?x=1"


def tls_for(scheme: str) -> ssl.SSLContext | None:
    return server_context(HOST) if scheme == "https" else None


@asynccontextmanager
async def proxied(scheme: str, *scripts: Script) -> AsyncIterator[tuple[ScriptedServer, ForwardProxy, Sender]]:
    """A listener, a proxy, and a sender that may only use the proxy."""
    async with (
        ScriptedServer(scripts or [GOOD], tls_for(scheme)) as listener,
        ForwardProxy() as proxy,
        a_sender(
            policy=through(proxy.port), resolve=resolves_nothing, ssl_context=trusting_context(), details="all"
        ) as sender,
    ):
        yield listener, proxy, sender


async def outcome_behind(*script: bytes | str, scheme: str = "https", timeout_ms: int = 5_000) -> Outcome:
    """Return the outcome of an attempt with a proxy that follows the script. No connection may remain."""
    limits = SenderLimits(connect_timeout_ms=300)
    async with (
        ScriptedServer([script]) as proxy,
        a_sender(policy=through(proxy.port), resolve=resolves_nothing, limits=limits) as sender,
    ):
        outcome = await attempt(sender, request_to(f"{scheme}://{HOST}/hook", timeout_ms=timeout_ms))
        if outcome.status == 0:
            await proxy.until_open(0)
        return outcome


async def test_http_proxy_gets_the_whole_url_and_credentials_that_listener_and_trace_do_not_get() -> None:
    async with proxied("http") as (listener, proxy, sender):
        outcome = await attempt(sender, request_to(url_of(listener)))
        assert outcome.acknowledged
        assert proxy.lines == [f"POST http://{HOST}:{listener.port}/hook?x=1 HTTP/1.1"]
        assert proxy.requests[0].headers["proxy-authorization"] == CREDENTIALS
        [received] = listener.requests
    assert received.line == "POST /hook?x=1 HTTP/1.1"
    assert received.headers["host"] == f"{HOST}:{listener.port}"
    assert (outcome.trace is not None, outcome.withheld) == (True, False)
    assert outcome.trace is not None
    assert outcome.trace.address == ""
    assert "proxy-authorization" not in dict(visible_request_headers(outcome.trace.request_head))
    assert "proxy-authorization" not in received.headers


async def test_https_proxy_is_asked_for_a_tunnel_and_sees_nothing_else() -> None:
    async with proxied("https") as (listener, proxy, sender):
        outcome = await attempt(sender, request_to(url_of(listener)))
        assert outcome.acknowledged
        [asked], [received] = proxy.requests, listener.requests
    place = f"{HOST}:{listener.port}"
    assert asked.line == f"CONNECT {place} HTTP/1.1"
    assert asked.headers == {"host": place, "proxy-authorization": CREDENTIALS}
    assert received.line == "POST /hook?x=1 HTTP/1.1"
    assert outcome.trace is not None
    assert (outcome.trace.address, outcome.trace.timings.tls_ms is not None) == ("", True)


@pytest.mark.parametrize(
    ("url", "place"),
    [(f"https://{HOST}/", f"{HOST}:443"), ("https://[2606:4700::1111]/", "[2606:4700::1111]:443")],
)
async def test_tunnel_names_the_default_port(url: str, place: str) -> None:
    async with ScriptedServer([(READ, CLOSE)]) as server, a_sender(policy=through(server.port)) as sender:
        await attempt(sender, request_to(url))
    assert server.requests[0].line == f"CONNECT {place} HTTP/1.1"


async def test_proxy_without_credentials_gets_none() -> None:
    async with ScriptedServer([(READ, OK)]) as server:
        policy = EgressPolicy(proxy=proxy_at(server.port, credentials=""))
        async with a_sender(policy=policy, resolve=resolves_nothing) as sender:
            assert (await attempt(sender, request_to(f"http://{HOST}/"))).acknowledged
    assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_connection_through_the_proxy_is_reused_for_its_origin_only(scheme: str) -> None:
    async with proxied(scheme) as (listener, proxy, sender):
        for number in range(1, 6):
            assert (await attempt(sender, request_to(url_of(listener), number=number))).acknowledged
        assert (proxy.connections, listener.connections, sender.open_connections) == (1, 1, 1)
        # A response of one listener must never be taken for that of another.
        async with ScriptedServer([GOOD], tls_for(scheme)) as other:
            assert (await attempt(sender, request_to(url_of(other)))).acknowledged
            assert proxy.connections == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_literal_private_address_is_refused_before_the_proxy_is_asked(scheme: str) -> None:
    async with proxied(scheme) as (listener, proxy, sender):
        for host in ("127.0.0.1", "0x7f.1", "169.254.169.254", "[::1]"):
            outcome = await attempt(sender, request_to(url_of(listener, host)))
            assert outcome.error == "refused_address"
        assert proxy.connections == 0


async def test_allowed_literal_address_goes_through_the_proxy_and_its_response_is_withheld() -> None:
    async with ScriptedServer([GOOD]) as listener, ForwardProxy() as proxy:
        async with a_sender(policy=through(proxy.port, allow_private=True)) as sender:
            outcome = await attempt(sender, request_to(listener.url))
        assert (outcome.status, outcome.withheld, proxy.connections) == (200, True, 1)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_hosts_of_no_proxy_are_resolved_checked_and_connected_directly(scheme: str) -> None:
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[IPAddress]:
        asked.append(host)
        target = parse_target("http://127.0.0.1/", "")
        assert target.literal is not None
        return [target.literal]

    async with ScriptedServer([GOOD], tls_for(scheme)) as listener, ForwardProxy() as proxy:
        for allowed in (True, False):
            policy = through(proxy.port, direct=("example",), allow_private=allowed)
            async with a_sender(policy=policy, resolve=resolve, ssl_context=trusting_context()) as sender:
                outcome = await attempt(sender, request_to(url_of(listener)))
            assert outcome.error == ("" if allowed else "refused_address")
    assert (proxy.connections, asked) == (0, [HOST, HOST])
    assert listener.requests[0].line == "POST /hook?x=1 HTTP/1.1"


@pytest.mark.parametrize("status", [403, 400, 404, 429])
async def test_refused_tunnel_is_a_failure_of_the_listener(status: int) -> None:
    outcome = await outcome_behind(READ_HEAD, b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
    expected = f"The egress proxy refused to connect to the listener ({status})."
    assert (outcome.error, outcome.status, outcome.detail) == ("connect", 0, expected)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "401"),
        (b"HTTP/1.0 500 Unable to connect\r\nConnection: close\r\n\r\n<html>", "500"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "invalid response"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", "200"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000, "200"),
    ],
)
async def test_unopened_tunnel_is_a_failure_of_the_proxy(answer: bytes, reason: str) -> None:
    outcome = await outcome_behind(READ_HEAD, answer)
    expected = f"The egress proxy opened no connection ({reason})."
    assert (outcome.error, outcome.status, outcome.detail) == ("egress_proxy", 0, expected)


@pytest.mark.parametrize("script", [(CLOSE,), (READ_HEAD, CLOSE), (READ_HEAD, b"HTTP/1.1 200 OK\r\n", RESET)])
async def test_tunnel_that_the_proxy_closes_unopened_is_a_failure_of_the_proxy(script: Script) -> None:
    outcome = await outcome_behind(*(step for step in script if isinstance(step, bytes | str)))
    assert (outcome.error, outcome.detail) == ("egress_proxy", "The egress proxy cannot be reached.")


async def test_tunnel_that_takes_too_long_is_a_failure_of_the_listener() -> None:
    """The proxy was reached, and waits for the listener."""
    outcome = await outcome_behind(READ_HEAD, HANG)
    assert outcome.error == "connect_timeout"


@pytest.mark.parametrize("status", [403, 407, 500, 503])
async def test_every_response_to_an_http_request_is_that_of_the_listener(status: int) -> None:
    outcome = await outcome_behind(READ, b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status, scheme="http")
    assert (outcome.error, outcome.status) == ("status", status)


async def test_http_connection_that_is_lost_is_a_failure_of_the_listener() -> None:
    assert (await outcome_behind(READ, CLOSE, scheme="http")).error == "reset"


async def test_http_response_that_does_not_come_is_a_failure_of_the_listener() -> None:
    assert (await outcome_behind(READ, HANG, scheme="http", timeout_ms=300)).error == "timeout"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_proxy_that_refuses_connections_is_a_failure_of_the_proxy_without_details_for_clients(
    scheme: str,
) -> None:
    async with a_sender(policy=through(free_port()), resolve=resolves_nothing) as sender:
        outcome = await attempt(sender, request_to(f"{scheme}://{HOST}/"))
    assert (outcome.error, outcome.detail) == ("egress_proxy", "The egress proxy cannot be reached.")
    assert outcome.cause == "The connection was refused."


@pytest.fixture
def unreachable_port() -> Iterator[int]:
    """A port whose backlog of connections is full, so that it no longer answers."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_proxy_that_is_silent_is_a_failure_of_the_proxy(scheme: str, unreachable_port: int) -> None:
    limits, policy = SenderLimits(connect_timeout_ms=300), through(unreachable_port)
    async with a_sender(policy=policy, resolve=resolves_nothing, limits=limits) as sender:
        outcome = await attempt(sender, request_to(f"{scheme}://{HOST}/"))
    assert outcome.error == "egress_proxy"
    fetcher = Fetcher(policy=policy, resolve=resolves_nothing, connect_seconds=0.2)
    assert (await fetcher.get(parse_target(f"{scheme}://{HOST}/", ""), 5.0)).error == "egress_proxy"


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_proxy_whose_name_does_not_resolve_is_a_failure_of_the_proxy(scheme: str) -> None:
    policy = EgressPolicy(proxy=EgressProxy(parse_target("http://proxy.example:3128", "")))
    async with a_sender(policy=policy, resolve=resolves_nowhere) as sender:
        outcome = await attempt(sender, request_to(f"{scheme}://{HOST}/"))
    assert (outcome.error, outcome.cause) == ("egress_proxy", "The host name could not be resolved.")


async def test_next_address_of_the_proxy_is_tried() -> None:
    async def resolve(host: str, _port: int) -> Sequence[IPAddress]:
        assert host == "proxy.example"
        found = [parse_target(f"http://{each}/", "").literal for each in ("127.0.0.9", "127.0.0.1")]
        return [each for each in found if each is not None]

    async with ScriptedServer([GOOD], server_context(HOST)) as listener, ForwardProxy() as proxy:
        policy = EgressPolicy(proxy=EgressProxy(parse_target(f"http://proxy.example:{proxy.port}", "")))
        async with a_sender(policy=policy, resolve=resolve, ssl_context=trusting_context()) as sender:
            assert (await attempt(sender, request_to(url_of(listener)))).acknowledged
        assert proxy.connections == 1


async def test_certificate_is_checked_within_the_tunnel_and_is_a_failure_of_the_listener() -> None:
    async with (
        ScriptedServer([GOOD], server_context("other.example")) as listener,
        ForwardProxy() as proxy,
        a_sender(policy=through(proxy.port), ssl_context=trusting_context()) as sender,
    ):
        outcome = await attempt(sender, request_to(url_of(listener)))
    assert outcome.error == "tls"
    assert listener.requests == []


async def test_server_without_tls_behind_a_tunnel_is_a_failure_of_the_listener() -> None:
    async with (
        ScriptedServer([(CLOSE,)]) as listener,
        ForwardProxy() as proxy,
        a_sender(policy=through(proxy.port), ssl_context=trusting_context()) as sender,
    ):
        outcome = await attempt(sender, request_to(f"https://{HOST}:{listener.port}/"))
    assert outcome.error == "tls"


async def test_attempt_that_ends_while_the_tunnel_opens_closes_its_connection() -> None:
    clock = MovableClock()
    async with ScriptedServer([(READ, HANG)]) as proxy, a_sender(policy=through(proxy.port), clock=clock) as sender:
        outcome = begin(sender, request_to(f"https://{HOST}/"))
        await proxy.until_received(1)
        clock.added_seconds += 60
        sender.sweep()
        assert (await outcome).error == "connect_timeout"
        await proxy.until_open(0)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_fetch_goes_through_the_proxy(scheme: str) -> None:
    async with ScriptedServer([GOOD], tls_for(scheme)) as server, ForwardProxy() as proxy:
        context = trusting_context()
        fetcher = Fetcher(policy=through(proxy.port), resolve=resolves_nothing, ssl_context=context)
        target = parse_target(url_of(server), "")
        fetched = await fetcher.get(target, 5.0)
        assert (fetched.status, fetched.body) == (200, b"ok")
        assert (await fetcher.post_form(target, "Basic eA==", b"a=b", 5.0)).status == 200
        methods = [line.split(" ")[0] for line in proxy.lines]
        assert methods == (["CONNECT", "CONNECT"] if scheme == "https" else ["GET", "POST"])
        assert {each.headers["proxy-authorization"] for each in proxy.requests} == {CREDENTIALS}
    assert [each.body for each in server.requests] == [b"", b"a=b"]
    assert (await fetcher.get(target, 5.0)).error == "egress_proxy"


async def test_token_that_the_proxy_cannot_fetch_is_not_an_authentication_failure() -> None:
    async with ScriptedServer([GOOD]) as listener, ScriptedServer([(READ, token_response("one"))]) as issuer:
        clock, policy = MovableClock(), through(free_port(), allow_private=True)
        tokens = AccessTokens(Fetcher(policy=policy, kept_bytes=TOKEN_BYTES), clock)
        sender = AuthorizingSender(Sender(clock=clock, policy=policy), tokens, clock)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        sender.send(request_to(listener.url, grant=grant_to(issuer)), outcome.set_result)
        assert (await outcome).error == "egress_proxy"
        await sender.close()
        await tokens.close()
