"""Filters take turns with everything else on the event loop."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from discue.domain.filters import compile_filter
from discue.domain.messages import Entry
from discue.store.time_slice import SLICE_SECONDS
from tests.dispatch.lane.test_filters import wanting
from tests.dispatch.stage import Stage, until, well

_SLOW = wanting({"data": {"$or": [{"$regex": f"x{n}$"} for n in range(9)]}})
_PER_TURN = 5
_FILTERED_MS = int(SLICE_SECONDS * 1_000) // _PER_TURN
_BODY = b'"a"'


class _Counting:
    """Counts how many messages a filter looks at without a pause, each of which takes a part of a turn."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        self.bodies: list[bytes] = []
        self._clock = stage.clock
        self._is_open = False
        compiled = compile_filter(_SLOW.filter or "")
        monkeypatch.setattr(compiled, "accepts", partial(self._accepts, compiled.accepts))

    def _accepts(self, accepts: Callable[[Entry], bool], entry: Entry) -> bool:
        if not self._is_open:
            self._is_open = True
            self.counts.append(0)
            asyncio.get_running_loop().call_soon(self._close)
        self.counts[-1] += 1
        self.bodies.append(entry.body)
        self._clock.advance(_FILTERED_MS)
        return accepts(entry)

    def _close(self) -> None:
        self._is_open = False


@pytest.fixture
def counting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> _Counting:
    return _Counting(stage, monkeypatch)


async def test_messages_that_a_slow_filter_rejects_are_spread_over_turns(stage: Stage, counting: _Counting) -> None:
    queue, _ = await stage.running(_SLOW)
    await stage.append(queue, 40, body=_BODY)
    last = await stage.publish(queue, body=b'"x7"')
    await until(lambda: stage.courier.ids() == last)
    assert sum(counting.counts) == 41
    assert max(counting.counts) <= _PER_TURN + 1


async def test_all_lanes_share_a_turn(stage: Stage, counting: _Counting) -> None:
    queue, _ = await stage.running(_SLOW)
    for _ in range(7):
        await stage.listener(queue, _SLOW)
    await stage.append(queue, 3, body=_BODY)
    ids = await stage.publish(queue, body=b'"x1"')
    await until(lambda: stage.courier.ids() == 8 * ids)
    assert max(counting.counts) <= _PER_TURN + 1
    for sent in list(stage.courier.in_flight):
        await stage.end(sent, well())
    assert not stage.courier.in_flight


async def test_lanes_of_different_organizations_alternate(stage: Stage, counting: _Counting) -> None:
    queue, _ = await stage.running(_SLOW)
    for _ in range(19):
        await stage.listener(queue, _SLOW)
    other = await stage.queue(await stage.organization())
    await stage.listener(other, _SLOW)
    await stage.append(queue, 3, body=_BODY)
    # A database takes a while to store a message: the turns count from when the dispatcher hears of it.
    before = []
    stage.store.on_append.insert(0, lambda _: before.append(len(counting.bodies)))
    ids = await stage.publish(other, body=b'"x2"')
    await until(lambda: stage.courier.ids() == ids)
    assert counting.bodies.index(b'"x2"') - before[0] <= 3 * _PER_TURN


async def test_lane_that_closes_before_its_turn_is_left_alone(stage: Stage) -> None:
    queue, listener = await stage.running(_SLOW)
    await stage.append(queue, 20, body=_BODY)
    await stage.configure(listener, status="disabled")
    await stage.quiet()
    await stage.publish(queue, body=b'"x3"')
    assert stage.courier.ids() == []
