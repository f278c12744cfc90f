"""Turns of large requests, with a clock that only the test moves."""

import asyncio
from collections.abc import Callable

import pytest

from discue.auth.turns import LargeRequest, Turns
from discue.domain.errors import Overloaded

OURS, THEIRS = 1, 2
LARGE = 4_000_000
MEDIUM = 400_000


class Watch:
    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


class Timers:
    """The timers that were set, for the test to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, watch: Watch) -> None:
        self.seconds: list[float] = []
        self._watch = watch
        self._next: tuple[Callable[..., object], tuple[object, ...]] | None = None
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        self.seconds.append(seconds)
        self._next = (call, arguments)
        loop = asyncio.get_running_loop()
        return asyncio.TimerHandle(loop.time() + seconds, call, arguments, loop)

    def run(self) -> None:
        """Let the time pass until the last timer, and run it."""
        assert self._next is not None
        call, arguments = self._next
        self._watch.now += self.seconds[-1]
        call(*arguments)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def turns(watch: Watch) -> Turns:
    return Turns(watch)


async def _handle(turns: Turns, watch: Watch, seconds: float) -> None:
    turn = await turns.begin(OURS, LARGE)
    watch.now += seconds
    turns.end(turn)


async def _begun(*waiting: "asyncio.Future[LargeRequest]") -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return sum(each.done() for each in waiting)


async def test_organization_that_is_alone_never_waits(turns: Turns, watch: Watch) -> None:
    for _ in range(20):
        turns.note(OURS)
        await asyncio.wait_for(_handle(turns, watch, 5.0), 1)


async def test_large_request_waits_for_another_of_its_organization(turns: Turns) -> None:
    first = await turns.begin(OURS, LARGE)
    second = asyncio.ensure_future(turns.begin(OURS, LARGE))
    theirs = asyncio.ensure_future(turns.begin(THEIRS, LARGE))
    assert await _begun(second, theirs) == 1
    turns.end(first)
    assert await _begun(second) == 1


async def test_smaller_requests_are_handled_together(turns: Turns) -> None:
    first, _ = [await turns.begin(OURS, MEDIUM) for _ in range(2)]
    third = asyncio.ensure_future(turns.begin(OURS, MEDIUM))
    assert await _begun(third) == 0
    turns.end(first)
    assert await _begun(third) == 1


@pytest.mark.parametrize(("others", "rest"), [(1, 1.0), (2, 2.0), (9, 3.0)])
async def test_organization_rests_while_others_are_active(
    turns: Turns, watch: Watch, monkeypatch: pytest.MonkeyPatch, others: int, rest: float
) -> None:
    timers = Timers(monkeypatch, watch)
    for organization in range(1, 2 + others):
        turns.note(organization)
    await _handle(turns, watch, 0.5)
    waiting = asyncio.ensure_future(turns.begin(OURS, LARGE))
    assert await _begun(waiting) == 0
    # Half a second, and less by what an organization may use before.
    assert 0.5 * rest - 0.1 * (1 + rest) <= timers.seconds[-1] <= 0.5 * rest
    timers.run()
    assert await _begun(waiting) == 1


async def test_long_request_costs_no_more_than_a_second(
    turns: Turns, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, watch)
    turn = await turns.begin(OURS, LARGE)
    watch.now += 600
    turns.note(THEIRS)
    turns.end(turn)
    turns.note(THEIRS)
    waiting = asyncio.ensure_future(turns.begin(OURS, LARGE))
    await _begun(waiting)
    assert not timers.seconds or timers.seconds[-1] <= 4
    if timers.seconds:
        timers.run()
    assert await _begun(waiting) == 1


async def test_cancelled_request_leaves_its_turn_to_the_next(turns: Turns) -> None:
    first = await turns.begin(OURS, LARGE)
    leaving, staying = (asyncio.ensure_future(turns.begin(OURS, LARGE)) for _ in range(2))
    await _begun(leaving, staying)
    turns.end(first)
    leaving.cancel()
    assert await _begun(leaving, staying) == 2
    assert leaving.cancelled()
    assert not staying.cancelled()


async def test_too_many_waiting_requests_are_refused(turns: Turns) -> None:
    first = await turns.begin(OURS, LARGE)
    waiting = [asyncio.ensure_future(turns.begin(OURS, LARGE)) for _ in range(256)]
    await _begun(*waiting)
    with pytest.raises(Overloaded):
        await turns.begin(OURS, LARGE)
    await turns.begin(THEIRS, LARGE)
    for each in waiting:
        each.cancel()
    turns.end(first)


async def test_lines_of_idle_organizations_are_forgotten(turns: Turns, watch: Watch) -> None:
    for organization in range(5_000):
        turns.end(await turns.begin(organization, LARGE))
        watch.now += 0.1
    assert len(turns._lines) <= 1_001


async def test_requests_do_not_wait_while_the_store_cannot_be_written(watch: Watch) -> None:
    healthy = True
    turns = Turns(watch, lambda: healthy)
    first = await turns.begin(OURS, 1 << 20)
    waiting = [asyncio.ensure_future(turns.begin(OURS, 1 << 20)) for _ in range(3)]
    assert await _begun(*waiting) == 0
    healthy = False
    turns.end(first)
    assert await _begun(*waiting) == 3
    assert (await turns.begin(OURS, 1 << 20)).size == 1 << 20
