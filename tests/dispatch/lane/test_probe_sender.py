"""The sender of probes. `tests/sending/test_fetch.py` owns what its requests do."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from discue.dispatch.lane import probes
from discue.dispatch.lane.probes import ProbeSender
from discue.domain.egress import EgressPolicy, IPAddress, parse_target
from discue.sending.fetch import Fetcher, FetchResult
from tests.dispatch.stage import until
from tests.support.scripted_server import CLOSE, HANG, READ_HEAD, Script, ScriptedServer

pytestmark = pytest.mark.usefixtures("runner")


async def _loopback(_host: str, _port: int) -> Sequence[IPAddress]:
    return [ip_address("127.0.0.1")]


def _sender() -> ProbeSender:
    return ProbeSender(Fetcher(policy=EgressPolicy(allow_private=True), resolve=_loopback))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ((READ_HEAD, b"HTTP/1.1 204 No Content\r\n\r\n", CLOSE), FetchResult(204, b"")),
        ((READ_HEAD, HANG), FetchResult(0, b"", "timeout")),
    ],
)
async def test_probe_reports_a_response_or_that_there_is_none_in_time(
    script: Script, expected: FetchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_SECONDS", 0.3)
    found: list[FetchResult] = []
    async with ScriptedServer([script]) as server:
        _sender()(parse_target(f"http://live.example:{server.port}/live", "/liveness_url"), found.append)
        await until(lambda: bool(found))
    assert found == [expected]


async def test_closing_cancels_probes_without_calling_back() -> None:
    heard: list[FetchResult] = []
    async with ScriptedServer([(READ_HEAD, HANG)]) as server:
        sender = _sender()
        sender(parse_target(f"http://live.example:{server.port}/", "/url"), heard.append)
        await until(lambda: server.connections > 0)
        await sender.close()
    assert heard == []
