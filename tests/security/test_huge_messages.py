"""Showing a message of 8 MiB blocks the event loop for no longer than a small one."""

import base64
import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.security.test_event_loop import Watchdog
from tests.support.served_api import Cast, cast_of, served

_LONGEST_SECONDS = 0.05
_HUGE_BYTES = 8_000_000

_DATA: dict[str, dict[str, Any]] = {
    "text": {"data": "x" * _HUGE_BYTES},
    "escaped": {"data": "é\n" * (_HUGE_BYTES // 4)},
    "list": {"data": [1] * (_HUGE_BYTES // 2 - 1)},
    "bytes": {"data_base64": base64.b64encode(bytes(_HUGE_BYTES * 3 // 4)).decode()},
}


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    with served(tmp_path_factory.mktemp("huge"), rate_limit=0, max_message_bytes=8 << 20) as service:
        made = cast_of(service)
        gc.collect()
        gc.freeze()
        yield made
        gc.unfreeze()


@pytest.mark.parametrize("query", ["", "?pretty=true"])
@pytest.mark.parametrize("kind", _DATA)
def test_huge_message_does_not_block_the_event_loop(cast: Cast, kind: str, query: str) -> None:
    queue = cast.queue()
    made = cast.alice.post(f"/queues/{queue}/messages", content=msgspec.json.encode(_DATA[kind]), headers=_JSON)
    path = f"/queues/{queue}/messages/{made.raise_for_status().json()['message']['id']}{query}"
    with Watchdog() as watchdog:
        steps = [watchdog.measure(partial(cast.alice.get, path)) for _ in range(2)]
    answer, _ = steps[0]
    shown = msgspec.json.decode(answer.raise_for_status().content)["message"]
    assert {name: shown[name] for name in _DATA[kind]} == _DATA[kind]
    # The garbage collector may be to blame for one of them.
    assert min(step for _, step in steps).seconds <= _LONGEST_SECONDS, steps[0][1]


_JSON = {"content-type": "application/json"}
