"""Clients learn nothing of the operator's network from deliveries that go there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.commands import Running, serving
from tests.support.databases import new_database
from tests.support.receiver import Reply, receiving

_KEY = "dsk_" + "c" * 60
_REFUSED = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "[::1]", "[fc00::1]", "0.0.0.0")
_SECRET = "internal-4f1d"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request, request.param, tmp_path) as address:
        yield address


def _ask(server: Running, method: str, path: str, body: object = None) -> Any:
    with httpx.Client(trust_env=False, timeout=20) as client:
        answer = client.request(method, server.url + path, headers={"x-api-key": _KEY}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _queue(server: Running) -> str:
    return f"/queues/{_ask(server, 'POST', '/queues', {})['queue']['id']}"


def _listener(server: Running, queue: str, url: str) -> str:
    fields = {"notify_url": url, "liveness_url": url}
    made: str = _ask(server, "POST", f"{queue}/listeners", fields)["listener"]["id"]
    return made


def _refusal(server: Running, queue: str, url: str) -> dict[str, Any]:
    """Return the error of a new listener."""
    path, headers = f"{server.url}{queue}/listeners", {"x-api-key": _KEY}
    answer = httpx.post(path, headers=headers, json={"notify_url": url}, timeout=20, trust_env=False)
    problem: dict[str, Any] = answer.json()
    return problem


def _attempts(server: Running, path: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many attempts, each of which the service logs after it is recorded, and return them in full."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found = _ask(server, "GET", f"{path}/attempts")["attempts"]
    return [_ask(server, "GET", f"{path}/attempts/{each['id']}")["attempt"] for each in found]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(503, (("x-internal", _SECRET),), _SECRET.encode()), 500),
        (Reply(418, content=_SECRET.encode()), 400),
        (Reply(202, content=_SECRET.encode()), 200),
    ],
)
def test_attempts_withhold_what_test_deliveries_withhold(
    database: str, tmp_path: Path, reply: Reply, status: int
) -> None:
    options = ("--database", database, "--bootstrap-key", _KEY, "--allow-private-targets", "--attempt-details", "all")
    with receiving("127.0.0.1") as receiver, serving(tmp_path, *options) as server:
        queue = _queue(server)
        listener = _listener(server, queue, receiver.endpoint(reply).url)
        message = _ask(server, "POST", f"{queue}/messages", {"data": "hello"})["message"]["id"]
        (attempt,) = _attempts(server, f"{queue}/messages/{message}", 1)
        test = _ask(server, "POST", f"{queue}/listeners/{listener}/tests", {})["test"]
        delivery = _ask(server, "GET", f"{queue}/messages/{message}/deliveries")["deliveries"][0]
    assert (test["withheld"], test["status_class"]) == (True, f"{status // 100}xx")
    assert (attempt["withheld"], attempt["status"], attempt["took_ms"]) == (True, status, 0)
    assert attempt["started_at"] == attempt["created_at"]
    assert delivery["last_status"] == status
    assert not {"response", "timings", "connection"} & (attempt.keys() | test.keys())
    assert "request" in attempt
    shown = f"{attempt}{test}{delivery}"
    assert _SECRET not in shown


def test_operator_can_show_responses_of_private_addresses(tmp_path: Path) -> None:
    options = ("--bootstrap-key", _KEY, "--allow-private-targets", "--show-private-responses")
    with receiving("127.0.0.1") as receiver, serving(tmp_path, *options) as server:
        queue = _queue(server)
        listener = _listener(server, queue, receiver.endpoint(Reply(503, content=b"busy")).url)
        message = _ask(server, "POST", f"{queue}/messages", {"data": "hello"})["message"]["id"]
        (attempt,) = _attempts(server, f"{queue}/messages/{message}", 1)
        test = _ask(server, "POST", f"{queue}/listeners/{listener}/tests", {})["test"]
    for shown in (attempt, test):
        assert (shown["withheld"], shown["status"], shown["response"]["body"]) == (False, 503, "busy")


def test_every_kind_of_refused_address_gets_the_same_sentence(database: str, tmp_path: Path) -> None:
    options = ("--database", database, "--bootstrap-key", _KEY)
    with serving(tmp_path, *options, "--allow-private-targets") as server:
        queue = _queue(server)
        paths = [f"{queue}/listeners/{_listener(server, queue, f'http://{host}:9/')}" for host in _REFUSED]
        server.stop()
    with serving(tmp_path, *options) as server:
        _ask(server, "POST", f"{queue}/messages", {"data": "hello"})
        seen = [_attempts(server, path, 1)[0] for path in paths]
        created = [_refusal(server, queue, f"http://{host}:9/") for host in (*_REFUSED, "localhost")]
        server.stop()
    assert len({(each["code"], each["detail"]) for each in created}) == 1
    assert created[0]["code"] == "address_refused"
    assert "allow_private_targets" in created[0]["detail"]
    assert {(each["error"], each["status"]) for each in seen} == {("refused_address", 0)}
    (sentence,) = {each["detail"] for each in seen}
    assert "allow_private_targets" in sentence
    # The log has what clients do not see.
    causes = set(re.findall(r"cause=([a-z-]+)", server.log.text))
    assert causes >= {"loopback", "link-local", "private", "unspecified"}, causes
