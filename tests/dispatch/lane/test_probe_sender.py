"""Probes of a real server: the rule, the fetcher and the probe sender together."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from discue.dispatch.lane import probes
from discue.dispatch.lane.probes import ProbeSender
from discue.domain.egress import EgressPolicy, IPAddress, parse_target
from discue.domain.listener_health import probe_error
from discue.sending.fetch import Fetcher, FetchResult
from tests.dispatch.stage import until
from tests.support.authority import server_context, trusting_context
from tests.support.scripted_server import CLOSE, HANG, READ_HEAD, RESET, Drip, Flood, Script, ScriptedServer

pytestmark = pytest.mark.usefixtures("runner")

ANYWHERE = EgressPolicy(allow_private=True)
OK = b"HTTP/1.1 200 OK\r\n"


async def _loopback(_host: str, _port: int) -> Sequence[IPAddress]:
    return [ip_address("127.0.0.1")]


def _fetching(policy: EgressPolicy = ANYWHERE) -> ProbeSender:
    return ProbeSender(Fetcher(policy=policy, resolve=_loopback, ssl_context=trusting_context()))


async def _probed(url: str, policy: EgressPolicy = ANYWHERE) -> FetchResult:
    found: asyncio.Future[FetchResult] = asyncio.get_running_loop().create_future()
    _fetching(policy)(parse_target(url, "/liveness_url"), found.set_result)
    return await found


def _answer(status: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Some\r\n%sContent-Length: 0\r\n\r\n" % (status, more)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((READ_HEAD, _answer(200), CLOSE), ""),
        ((READ_HEAD, _answer(204), CLOSE), ""),
        ((READ_HEAD, _answer(299), CLOSE), ""),
        ((READ_HEAD, OK + b"\r\nalive", CLOSE), ""),
        ((READ_HEAD, OK + b"Content-Length: 10000000\r\n\r\n", Flood(b"x" * 65_536, 10_000_000)), ""),
        ((READ_HEAD, _answer(500), CLOSE), "answered 500"),
        ((READ_HEAD, _answer(302, b"Location: http://169.254.169.254/\r\n"), CLOSE), "answered 302"),
        ((READ_HEAD, _answer(404), CLOSE), "answered 404"),
        ((READ_HEAD, HANG), "no response in time"),
        ((READ_HEAD, Drip(OK + b"X-Drip: drop\r\n" * 10_000)), "no response in time"),
        ((READ_HEAD, OK + b"Content-Length: 9\r\n\r\nali", HANG), "no response in time"),
        ((READ_HEAD, RESET), "no response"),
        ((READ_HEAD, CLOSE), "no response"),
        ((READ_HEAD, b"what?\r\n\r\n"), "no response"),
    ],
)
async def test_probe_reports_the_behaviour_of_the_server(
    script: Script, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if error == "no response in time":
        monkeypatch.setattr(probes, "PROBE_TIMEOUT_SECONDS", 0.3)
    async with ScriptedServer([script]) as server:
        found = await _probed(f"http://live.example:{server.port}/live")
    assert probe_error(found.error, found.status) == error


async def test_refused_connection_is_reported() -> None:
    async with ScriptedServer([(HANG,)]) as server:
        port = server.port
    found = await _probed(f"http://live.example:{port}/")
    assert probe_error(found.error, found.status) == "no connection"


@pytest.mark.parametrize("host", ["live.example", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_probe_of_an_internal_address_is_refused(host: str) -> None:
    async with ScriptedServer([(READ_HEAD, _answer(200), CLOSE)]) as server:
        found = await _probed(f"http://{host}:{server.port}/", EgressPolicy())
        assert server.connections == 0
    assert (probe_error(found.error, found.status), found.status) == ("address not allowed", 0)


async def test_over_tls_the_certificate_must_name_the_host() -> None:
    async with ScriptedServer([(READ_HEAD, _answer(200), CLOSE)], server_context("live.example")) as server:
        well = await _probed(f"https://live.example:{server.port}/")
        badly = await _probed(f"https://other.example:{server.port}/")
    assert [probe_error(found.error, found.status) for found in (well, badly)] == ["", "TLS failed"]


async def test_closing_cancels_probes_without_calling_back() -> None:
    heard: list[FetchResult] = []
    async with ScriptedServer([(READ_HEAD, HANG)]) as server:
        fetching = _fetching()
        fetching(parse_target(f"http://live.example:{server.port}/", "/url"), heard.append)
        await until(lambda: server.connections > 0)
        await fetching.close()
    assert heard == []
