"""Requests through the proxies of the distribution: Squid and Tinyproxy."""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from discue.config.types import EGRESS_PROXY
from discue.domain.attempts import Outcome
from discue.domain.egress import EgressPolicy, EgressProxy, parse_target
from discue.sending.fetch import Fetcher
from tests.dispatch.stage import until
from tests.sending.test_egress_proxy import GOOD, resolves_nothing
from tests.support.attempts import a_sender, attempt, request_to
from tests.support.authority import server_context, trusting_context
from tests.support.ports import free_port
from tests.support.proxies import BLOCKED, SQUID, TINYPROXY, squid, tinyproxy
from tests.support.scripted_server import CLOSE, READ, ScriptedServer

USER, PASSWORD = "ada", "hunter2"
# The only name that every machine resolves.
HOST = "localhost"
PROXIES: Final = {"squid": (SQUID, squid), "tinyproxy": (TINYPROXY, tinyproxy)}


class Installed(NamedTuple):
    kind: str
    port: int

    def policy(self, password: str = PASSWORD) -> EgressPolicy:
        proxy = EGRESS_PROXY.parse(f"http://{USER}:{password}@127.0.0.1:{self.port}")
        assert isinstance(proxy, EgressProxy)
        return EgressPolicy(proxy=proxy)

    async def attempt(self, url: str, password: str = PASSWORD) -> Outcome:
        async with a_sender(
            policy=self.policy(password), resolve=resolves_nothing, ssl_context=trusting_context()
        ) as sender:
            return await attempt(sender, request_to(url))


@pytest.fixture(scope="module", params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest) -> Iterator[Installed]:
    kind = request.param
    program, run = PROXIES[kind]
    if program is None and "CI" not in os.environ:
        pytest.skip(f"{kind} is not installed")
    port = free_port()
    with run(port, USER, PASSWORD):
        yield Installed(kind, port)


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def listener_for(scheme: str) -> ScriptedServer:
    return ScriptedServer([GOOD], server_context(HOST) if scheme == "https" else None)


async def test_messages_arrive_over_connections_that_are_reused(proxy: Installed, scheme: str) -> None:
    # Tinyproxy closes each connection for `http`.
    is_closed = (proxy.kind, scheme) == ("tinyproxy", "http")
    async with (
        listener_for(scheme) as listener,
        a_sender(
            policy=proxy.policy(), resolve=resolves_nothing, ssl_context=trusting_context(), details="all"
        ) as sender,
    ):
        reused = []
        for number in range(1, 4):
            request = request_to(f"{scheme}://{HOST}:{listener.port}/hook?x=1", number=number, body=b"x" * 100_000)
            outcome = await attempt(sender, request)
            assert outcome.acknowledged
            assert outcome.trace is not None
            reused.append(outcome.trace.is_reused)
            if is_closed:
                # It does not announce that: until the end arrives, the connection counts as open.
                await until(lambda: sender.open_connections == 0)
        received = listener.requests
    assert reused == [False, not is_closed, not is_closed]
    assert [(each.line, len(each.body)) for each in received] == [("POST /hook?x=1 HTTP/1.1", 100_000)] * 3
    assert not any("proxy-authorization" in each.headers for each in received)


async def test_probes_arrive(proxy: Installed, scheme: str) -> None:
    async with listener_for(scheme) as server:
        fetcher = Fetcher(policy=proxy.policy(), resolve=resolves_nothing, ssl_context=trusting_context())
        fetched = await fetcher.get(parse_target(f"{scheme}://{HOST}:{server.port}/live", ""), 10.0)
    assert (fetched.status, fetched.body) == (200, b"ok")


async def test_refusal_by_the_proxy_is_a_failure_of_the_listener(proxy: Installed, scheme: str) -> None:
    outcome = await proxy.attempt(f"{scheme}://{BLOCKED}/")
    assert (outcome.error, outcome.status) == (("status", 403) if scheme == "http" else ("connect", 0))


async def test_wrong_password_is_a_failure_of_the_proxy_for_tunnels_only(proxy: Installed, scheme: str) -> None:
    async with listener_for(scheme) as listener:
        outcome = await proxy.attempt(f"{scheme}://{HOST}:{listener.port}/", "wrong")
    assert listener.requests == []
    status = 407 if proxy.kind == "squid" else 401
    if scheme == "http":
        assert (outcome.error, outcome.status) == ("status", status)
    else:
        assert (outcome.error, outcome.detail) == ("egress_proxy", f"The egress proxy opened no connection ({status}).")


async def test_unreachable_listener_is_a_failure_of_the_proxy_for_tunnels_only(proxy: Installed, scheme: str) -> None:
    """Neither proxy distinguishes this from a failure of its own."""
    outcome = await proxy.attempt(f"{scheme}://{HOST}:{free_port()}/")
    assert outcome.error == ("status" if scheme == "http" else "egress_proxy")
    assert outcome.status in ({500, 502, 503} if scheme == "http" else {0})


async def test_response_that_breaks_off_is_a_failure_of_the_listener(proxy: Installed, scheme: str) -> None:
    tls = server_context(HOST) if scheme == "https" else None
    async with ScriptedServer([(READ, CLOSE)], tls) as listener:
        outcome = await proxy.attempt(f"{scheme}://{HOST}:{listener.port}/")
    assert outcome.error in ({"reset", "status"} if scheme == "http" else {"reset"})


@pytest.mark.parametrize("kind", sorted(PROXIES))
async def test_stopped_proxy_is_a_failure_of_the_proxy(kind: str, scheme: str) -> None:
    program, run = PROXIES[kind]
    if program is None and "CI" not in os.environ:
        pytest.skip(f"{kind} is not installed")
    stopped = Installed(kind, free_port())
    async with listener_for(scheme) as listener:
        url = f"{scheme}://{HOST}:{listener.port}/"
        with run(stopped.port, USER, PASSWORD):
            assert (await stopped.attempt(url)).acknowledged
        assert (await stopped.attempt(url)).error == "egress_proxy"
