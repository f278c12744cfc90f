"""Keys read no messages without their scope, and nothing after they have expired."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.serving import installation
from tests.support.served_process import KEY

_PATIENCE_SECONDS = 10.0
_VALID_MS = 1_000


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def owner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client with the operator's key."""
    with installation(request.param, tmp_path_factory.mktemp("keys")) as running, _client(running.urls[0], KEY) as ours:
        yield ours


def _client(url: str, key: str) -> httpx.Client:
    headers = {"x-api-key": key}
    return httpx.Client(base_url=url, headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False)


def _created(client: httpx.Client, path: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json=fields).raise_for_status().json()
    made: dict[str, Any] = next(value for name, value in answer.items() if name != "_links")
    return made


@pytest.fixture
def puller(owner: httpx.Client) -> str:
    """The path of a listener in pull mode, with one waiting message."""
    queue = _created(owner, "/queues")["id"]
    listener = _created(owner, f"/queues/{queue}/listeners", mode="pull")["id"]
    _created(owner, f"/queues/{queue}/messages", data="secret")
    return f"/queues/{queue}/listeners/{listener}"


def test_a_key_for_listeners_alone_reads_no_messages(owner: httpx.Client, puller: str) -> None:
    queue = puller.rpartition("/listeners")[0]
    urls = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}
    pushed = _created(owner, f"{queue}/listeners", **urls)["id"]
    narrow = _created(owner, "/api_keys", scopes={"listeners": {"access": "write"}})["key"]
    with _client(str(owner.base_url), narrow) as attacker:
        attempts = [
            attacker.get(f"{puller}/messages"),
            attacker.get(f"{puller}/messages", headers={"accept": "text/event-stream"}),
            attacker.post(f"{queue}/listeners/{pushed}/replays", json={"from_at": 0}),
            attacker.post(f"{queue}/listeners/{pushed}/replays", json={"from_at": 0, "dry_run": True}),
        ]
    assert [answer.status_code for answer in attempts] == [403] * 4
    assert all("messages" in answer.json()["detail"] for answer in attempts)
    assert len(owner.get(f"{puller}/messages").json()["messages"]) == 1


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_an_expired_key_gets_no_more_messages(owner: httpx.Client, puller: str, accept: str) -> None:
    queue = puller.rpartition("/listeners")[0]
    expires_at = time.time_ns() // 1_000_000 + _VALID_MS
    key = _created(owner, "/api_keys", expires_at=expires_at)["key"]
    owner.get(f"{puller}/messages")
    received = []

    def wait() -> None:
        with _client(str(owner.base_url), key) as expiring:
            answer = expiring.get(f"{puller}/messages?wait=60", headers={"accept": accept})
            received.append((answer.status_code, answer.text, time.time_ns() // 1_000_000))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(_PATIENCE_SECONDS)
    assert not waiting.is_alive()
    ((status, text, ended_at),) = received
    assert status == 200
    assert "secret" not in text
    assert expires_at - 1 <= ended_at < expires_at + 2_000
    # A message that comes now is for somebody else.
    later = _created(owner, f"{queue}/messages", data="secret")["id"]
    assert [each["id"] for each in owner.get(f"{puller}/messages").json()["messages"]] == [later]
