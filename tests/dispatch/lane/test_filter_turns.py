"""Filters take turns with everything else on the event loop."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from discue.dispatch.lane.filter_turns import TURN_NS
from discue.domain.filters import compile_filter
from discue.domain.messages import Entry
from tests.dispatch.lane.test_filters import wanting
from tests.dispatch.stage import Stage, until, well

_SLOW = wanting({"data": {"$or": [{"$regex": f"x{n}$"} for n in range(9)]}})
_NS_PER_BYTE = compile_filter(_SLOW.filter or "").ns_per_byte
_PER_TURN = 4
_BODY = b'"%s"' % (b"a" * (TURN_NS // _NS_PER_BYTE // _PER_TURN))


class _Counting:
    """Counts how many messages a filter looks at without a pause; up to two turns of it may follow each other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        self._is_open = False
        compiled = compile_filter(_SLOW.filter or "")
        monkeypatch.setattr(compiled, "accepts", partial(self._accepts, compiled.accepts))

    def _accepts(self, accepts: Callable[[Entry], bool], entry: Entry) -> bool:
        if not self._is_open:
            self._is_open = True
            self.counts.append(0)
            asyncio.get_running_loop().call_soon(self._close)
        self.counts[-1] += 1
        return accepts(entry)

    def _close(self) -> None:
        self._is_open = False


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> _Counting:
    return _Counting(monkeypatch)


async def test_patterns_add_to_the_cost_of_a_filter() -> None:
    assert compile_filter('{"key": "a"}').ns_per_byte == 10
    assert compile_filter('{"data": {"a": {"$regex": "b"}, "$not": {"c": {"$regex": "d"}}}}').ns_per_byte == 50


async def test_messages_that_a_slow_filter_rejects_are_spread_over_turns(stage: Stage, counting: _Counting) -> None:
    queue, _ = await stage.running(_SLOW)
    await stage.append(queue, 40, body=_BODY)
    last = await stage.publish(queue, body=b'"x7"')
    await until(lambda: stage.courier.ids() == last)
    assert sum(counting.counts) == 41
    assert max(counting.counts) <= 2 * (_PER_TURN + 1)


async def test_all_lanes_share_a_turn(stage: Stage, counting: _Counting) -> None:
    queue, _ = await stage.running(_SLOW)
    for _ in range(7):
        await stage.listener(queue, _SLOW)
    await stage.append(queue, 3, body=_BODY)
    ids = await stage.publish(queue, body=b'"x1"')
    await until(lambda: stage.courier.ids() == 8 * ids)
    assert max(counting.counts) <= 2 * (_PER_TURN + 1)
    for sent in list(stage.courier.in_flight):
        await stage.end(sent, well())
    assert not stage.courier.in_flight


async def test_message_larger_than_a_turn_is_filtered(stage: Stage) -> None:
    queue, _ = await stage.running(_SLOW)
    await stage.append(queue, 2, body=_BODY)
    large = b'"%sx3"' % (b"a" * (2 * TURN_NS // _NS_PER_BYTE))
    ids = await stage.publish(queue, body=large)
    await until(lambda: stage.courier.ids() == ids)


async def test_lane_that_closes_before_its_turn_is_left_alone(stage: Stage) -> None:
    queue, listener = await stage.running(_SLOW)
    await stage.append(queue, 20, body=_BODY)
    await stage.configure(listener, status="disabled")
    await stage.quiet()
    await stage.publish(queue, body=b'"x3"')
    assert stage.courier.ids() == []
