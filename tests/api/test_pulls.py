"""Requests for messages that wait, as HTTP has them."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from discue.access import Scope
from tests.api.serving import Cast, Service

PATIENCE_SECONDS = 10


def _pulling(cast: Cast) -> tuple[str, str]:
    queue = cast.queue()
    return queue, f"/queues/{queue}/listeners/{cast.listener(queue, mode='pull')}"


def _waiting(service: Service) -> int:
    async def count() -> int:
        return sum(len(desk._polls) for desk in service.pulls._desks.values())

    return service.run(count())


def _until_waiting(service: Service, count: int) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while _waiting(service) != count:
        assert time.monotonic() < ends_at


def test_whoever_waits_and_goes_away_has_nothing_leased(cast: Cast) -> None:
    service, (queue, path) = cast.service, _pulling(cast)
    key = cast.alice.headers["x-api-key"]
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS) as leaving:
        request = f"GET {path}/messages?wait=60 HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n"
        leaving.sendall(request.encode())
        _until_waiting(service, 1)
    _until_waiting(service, 0)
    message = cast.message(queue)
    pulled = cast.alice.get(f"{path}/messages").json()["messages"]
    assert [(each["id"], each["attempt"]) for each in pulled] == [(message, 1)]


def test_many_may_wait_for_one_listener_and_share_what_comes(cast: Cast) -> None:
    service, (queue, path) = cast.service, _pulling(cast)

    def pull(_number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cast.alice.get(f"{path}/messages?wait=30&max=1").json()["messages"]
        return found

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(pull, number) for number in range(8)]
        _until_waiting(service, 8)
        ids = {cast.message(queue) for _ in range(8)}
        assert {each["id"] for got in waiting for each in got.result()} == ids


def test_a_key_for_one_listener_pulls_from_that_alone(cast: Cast) -> None:
    queue, path = _pulling(cast)
    other = f"/queues/{queue}/listeners/{cast.listener(queue, mode='pull')}"
    bob = cast.bob({"listeners": Scope("write", (path.rpartition("/")[2],))})
    cast.message(queue)
    (pulled,) = bob.get(f"{path}/messages").json()["messages"]
    assert bob.get(f"{other}/messages").status_code == 403
    content = {"acknowledge": [pulled["receipt"]]}
    assert bob.post(f"{other}/acknowledgements", json=content).status_code == 403
    # A receipt is good for its own listener.
    answer = cast.alice.post(f"{other}/acknowledgements", json=content).json()
    assert answer["receipts"] == [{"receipt": pulled["receipt"], "state": "settled"}]
    answer = bob.post(f"{path}/acknowledgements", json=content).json()
    assert answer["receipts"] == [{"receipt": pulled["receipt"], "state": "acknowledged"}]
