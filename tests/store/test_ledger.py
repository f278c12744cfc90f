"""Reservations, with a clock that only the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Overloaded
from discue.domain.reservations import FEW_ROWS, RESOURCE, SMALL_READ_BYTES, ReadBound
from discue.store.ledger import Ledger

OURS, THEIRS = 1, 2
CAP = 64 << 20
LARGE = ReadBound(2_000, 0)
MEDIUM = ReadBound(200, 0)


def memory(size: int) -> ReadBound:
    """A bound that waits for memory, but not for a turn."""
    return ReadBound(0, size)


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
def ledger(watch: Watch) -> Ledger:
    return Ledger(max_bytes=CAP, monotonic=watch)


async def _handle(ledger: Ledger, watch: Watch, seconds: float) -> None:
    turn = await ledger.reserve(OURS, LARGE)
    watch.now += seconds
    turn.release()


async def _begun(*waiting: "asyncio.Future[Any]") -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return sum(each.done() for each in waiting)


async def test_only_active_organization_never_waits(ledger: Ledger, watch: Watch) -> None:
    for _ in range(20):
        ledger.note(OURS)
        await asyncio.wait_for(_handle(ledger, watch, 5.0), 1)


async def test_large_request_waits_for_another_of_its_organization(ledger: Ledger) -> None:
    first = await ledger.reserve(OURS, LARGE)
    second = asyncio.ensure_future(ledger.reserve(OURS, LARGE))
    theirs = asyncio.ensure_future(ledger.reserve(THEIRS, LARGE))
    assert await _begun(second, theirs) == 1
    first.release()
    assert await _begun(second) == 1


async def test_smaller_requests_are_handled_together(ledger: Ledger) -> None:
    first, _ = [await ledger.reserve(OURS, MEDIUM) for _ in range(2)]
    third = asyncio.ensure_future(ledger.reserve(OURS, MEDIUM))
    assert await _begun(third) == 0
    first.release()
    assert await _begun(third) == 1


@pytest.mark.parametrize(("others", "rest"), [(1, 1.0), (2, 2.0), (9, 3.0)])
async def test_organization_rests_while_others_are_active(
    ledger: Ledger, watch: Watch, monkeypatch: pytest.MonkeyPatch, others: int, rest: float
) -> None:
    timers = Timers(monkeypatch, watch)
    for organization in range(1, 2 + others):
        ledger.note(organization)
    await _handle(ledger, watch, 0.5)
    waiting = asyncio.ensure_future(ledger.reserve(OURS, LARGE))
    assert await _begun(waiting) == 0
    # Half a second, less the time that an organization may use in advance.
    assert 0.5 * rest - 0.1 * (1 + rest) <= timers.seconds[-1] <= 0.5 * rest
    timers.run()
    assert await _begun(waiting) == 1


async def test_long_request_costs_no_more_than_a_second(
    ledger: Ledger, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, watch)
    turn = await ledger.reserve(OURS, LARGE)
    watch.now += 600
    ledger.note(THEIRS)
    turn.release()
    ledger.note(THEIRS)
    waiting = asyncio.ensure_future(ledger.reserve(OURS, LARGE))
    await _begun(waiting)
    assert not timers.seconds or timers.seconds[-1] <= 4
    if timers.seconds:
        timers.run()
    assert await _begun(waiting) == 1


async def test_cancelled_request_leaves_its_turn_to_the_next(ledger: Ledger) -> None:
    first = await ledger.reserve(OURS, LARGE)
    leaving, staying = (asyncio.ensure_future(ledger.reserve(OURS, LARGE)) for _ in range(2))
    await _begun(leaving, staying)
    first.release()
    leaving.cancel()
    assert await _begun(leaving, staying) == 2
    assert leaving.cancelled()
    assert not staying.cancelled()


async def test_too_many_waiting_requests_are_refused(ledger: Ledger) -> None:
    first = await ledger.reserve(OURS, LARGE)
    waiting = [asyncio.ensure_future(ledger.reserve(OURS, LARGE)) for _ in range(256)]
    await _begun(*waiting)
    with pytest.raises(Overloaded):
        await ledger.reserve(OURS, LARGE)
    await ledger.reserve(THEIRS, LARGE)
    for each in waiting:
        each.cancel()
    first.release()


async def test_lines_of_idle_organizations_are_forgotten(ledger: Ledger, watch: Watch) -> None:
    for organization in range(5_000):
        (await ledger.reserve(organization, LARGE)).release()
        watch.now += 0.1
    assert len(ledger._lines) <= 1_001


async def test_requests_do_not_wait_while_the_store_cannot_be_written(watch: Watch) -> None:
    healthy = True
    ledger = Ledger(monotonic=watch, is_store_healthy=lambda: healthy)
    first = await ledger.reserve(OURS, LARGE)
    waiting = [asyncio.ensure_future(ledger.reserve(OURS, LARGE)) for _ in range(3)]
    assert await _begun(*waiting) == 0
    healthy = False
    first.release()
    assert await _begun(*waiting) == 3
    await ledger.reserve(OURS, LARGE)


async def test_small_reservation_never_waits(ledger: Ledger) -> None:
    ledger.hold(OURS, CAP)
    with await ledger.reserve(OURS, FEW_ROWS):
        assert ledger.held == CAP + SMALL_READ_BYTES
    assert ledger.held == CAP


async def test_organization_holds_at_most_as_much_as_is_free(ledger: Ledger) -> None:
    part = CAP // 8
    for _ in range(4):
        await ledger.reserve(OURS, memory(part))
    waiting = asyncio.ensure_future(ledger.reserve(OURS, memory(part)))
    assert await _begun(waiting) == 0
    for _ in range(2):
        await ledger.reserve(THEIRS, memory(part))
    theirs = asyncio.ensure_future(ledger.reserve(THEIRS, memory(part)))
    assert await _begun(waiting, theirs) == 0
    for each in (waiting, theirs):
        each.cancel()


async def test_released_memory_goes_to_waiting_reservations(ledger: Ledger) -> None:
    first = await ledger.reserve(OURS, memory(CAP // 4))
    kept = await ledger.reserve(OURS, memory(CAP // 4))
    waiting = [asyncio.ensure_future(ledger.reserve(OURS, memory(CAP // 4))) for _ in range(2)]
    assert await _begun(*waiting) == 0
    assert set(ledger.take_pressed()) == {OURS}
    first.keep(1_000)
    assert await _begun(*waiting) == 1
    kept.release()
    first.release()
    assert await _begun(*waiting) == 2
    assert not ledger.take_pressed()


async def test_organization_gets_memory_that_another_releases(ledger: Ledger) -> None:
    ours = ledger.hold(OURS, CAP)
    theirs = asyncio.ensure_future(ledger.reserve(THEIRS, memory(CAP // 4)))
    assert await _begun(theirs) == 0
    ours.release()
    assert await _begun(theirs) == 1


async def test_organization_short_of_its_own_memory_is_not_pressed_by_others(ledger: Ledger) -> None:
    ours = ledger.hold(OURS, CAP // 2)
    theirs = ledger.hold(THEIRS, CAP // 4)
    waiting = asyncio.ensure_future(ledger.reserve(OURS, memory(CAP // 4)))
    assert await _begun(waiting) == 0
    assert ledger.take_pressed() == {OURS: False}
    theirs.keep(CAP)
    ours.keep(1)
    assert await _begun(waiting) == 0
    assert ledger.take_pressed() == {OURS: True}
    waiting.cancel()


async def test_organization_without_room_is_pressed(ledger: Ledger) -> None:
    ours = ledger.hold(OURS, CAP // 2)
    assert ledger.reserve_now(OURS, 1) is None
    assert ledger.take_pressed() == {OURS: False}
    ours.keep(CAP // 4)
    for size in (CAP // 2, 2 * CAP):
        reservation = ledger.reserve_now(OURS, size)
        assert reservation is not None
        assert ledger.held == CAP // 2
        reservation.release()
    ledger.hold(THEIRS, CAP)
    ours.release()
    assert ledger.reserve_now(OURS, 1) is None
    assert ledger.take_pressed() == {OURS: True}


async def test_reservation_larger_than_the_memory_is_granted(ledger: Ledger) -> None:
    with await ledger.reserve(OURS, memory(2 * CAP)) as reservation:
        assert reservation.bytes == CAP // 4


async def test_read_that_has_ended_uses_no_time(ledger: Ledger, watch: Watch) -> None:
    ledger.note(THEIRS)
    reservation = await ledger.reserve(OURS, ReadBound(2_000, 1_000))
    reservation.keep(500)
    watch.now += 5
    other = await asyncio.wait_for(ledger.reserve(OURS, LARGE), 1)
    assert ledger.held == 500
    reservation.release()
    reservation.release()
    other.release()
    assert ledger.held == 0


async def test_larger_reservation_releases_the_previous_one(ledger: Ledger) -> None:
    reservation = await ledger.reserve(OURS, memory(CAP // 4))
    await reservation.enlarge(memory(CAP // 4))
    assert ledger.held == CAP // 4
    ledger.hold(OURS, CAP)
    waiting = asyncio.ensure_future(reservation.enlarge(memory(CAP // 4)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    reservation.release()
    assert ledger.held == CAP


async def test_requests_without_a_key_do_not_wait(ledger: Ledger) -> None:
    ledger.hold(0, CAP)
    with pytest.raises(Overloaded, match="clients that do not read"):
        await ledger.reserve(0, memory(1_000_000))
    assert set(ledger.take_pressed()) == {0}
    assert not ledger.take_pressed()


async def test_reservation_that_waits_for_too_long_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.store.ledger._LONGEST_WAIT_SECONDS", 0.001)
    held = ledger.hold(OURS, CAP)
    with pytest.raises(Overloaded, match="Read earlier responses"):
        await ledger.reserve(OURS, memory(1_000_000))
    held.release()
    assert ledger.held == 0
    with await ledger.reserve(OURS, memory(1_000_000)):
        assert ledger.held == 1_000_000


@pytest.mark.parametrize("bound", [FEW_ROWS, RESOURCE])
async def test_reads_without_rows_of_one_organization_leave_turns_to_the_others(
    ledger: Ledger, bound: ReadBound
) -> None:
    order: list[int] = []

    async def read(organization: int) -> None:
        with await ledger.reserve(organization, bound):
            order.append(organization)

    ours = [asyncio.ensure_future(read(OURS)) for _ in range(40)]
    theirs = asyncio.ensure_future(read(THEIRS))
    ours[20].cancel()
    await asyncio.gather(*ours, theirs, return_exceptions=True)
    assert order.index(THEIRS) == 8
    assert order.count(OURS) == 39
    assert ledger.held == 0


async def test_small_reads_of_later_turns_do_not_wait(ledger: Ledger) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
        reading = asyncio.ensure_future(ledger.reserve(OURS, FEW_ROWS))
        await asyncio.sleep(0)
        assert reading.done()
        (await reading).release()


async def test_released_memory_begins_a_limited_number_of_reads_per_turn(ledger: Ledger) -> None:
    held = ledger.hold(THEIRS, CAP)
    order: list[int] = []

    async def read(organization: int) -> None:
        with await ledger.reserve(organization, RESOURCE):
            order.append(organization)

    ours = [asyncio.ensure_future(read(OURS)) for _ in range(40)]
    # Eight of them begin to wait for memory in each turn.
    for _ in range(10):
        assert await _begun(*ours) == 0
    ours[20].cancel()
    await asyncio.sleep(0)
    held.release()
    theirs = asyncio.ensure_future(read(THEIRS))
    await asyncio.gather(*ours, theirs, return_exceptions=True)
    assert order.index(THEIRS) <= 8
    assert order.count(OURS) == 39
    assert ledger.held == 0


async def test_reads_that_wait_for_a_turn_begin_before_earlier_ones_end(ledger: Ledger) -> None:
    held = ledger.hold(THEIRS, CAP)
    waiting = [asyncio.ensure_future(ledger.reserve(OURS, RESOURCE)) for _ in range(20)]
    assert await _begun(*waiting) == 0
    held.release()
    for reservation in await asyncio.wait_for(asyncio.gather(*waiting), 1):
        reservation.release()
    assert ledger.held == 0


async def test_requests_without_a_key_take_no_share_of_the_time(
    ledger: Ledger, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, watch)
    (await ledger.reserve(0, FEW_ROWS)).release()
    for _ in range(3):
        read = asyncio.ensure_future(_handle(ledger, watch, 0.9))
        await asyncio.sleep(0)
        assert read.done()
        (await ledger.reserve(0, FEW_ROWS)).release()
    assert not timers.seconds


async def test_parts_of_a_reservation_hold_its_bytes_together(ledger: Ledger) -> None:
    whole, other = ledger.hold(OURS, 100_000), ledger.hold(OURS, 1_000)
    part = whole.split(30_000)
    assert (whole.bytes, part.bytes, ledger.held) == (70_000, 30_000, 101_000)
    other.take_over(part)
    assert (other.bytes, part.bytes, ledger.held) == (30_000, 0, 100_000)
    part.release()
    assert ledger.held == 100_000
    whole.release()
    other.release()
    assert ledger.held == 0


async def test_reservation_is_extended_only_while_there_is_room(ledger: Ledger) -> None:
    reservation = await ledger.reserve(OURS, FEW_ROWS)
    assert reservation.extend(1_000)
    assert ledger.held == SMALL_READ_BYTES
    assert reservation.extend(100_000)
    assert ledger.held == 100_000
    assert not reservation.extend(CAP)
    with ledger.hold(THEIRS, CAP):
        assert not reservation.extend(100_001)
    assert reservation.bytes == 100_000
    reservation.release()
    assert ledger.held == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400)), max_size=60))
def test_organizations_hold_at_most_as_much_memory_as_is_free(wishes: list[tuple[int, int]]) -> None:
    ledger, held_by = Ledger(max_bytes=1_600), dict.fromkeys(range(6), 0)
    for organization, size in wishes:
        if ledger.reserve_now(organization, size) is not None:
            was_first = not held_by[organization]
            held_by[organization] += size
            assert was_first or held_by[organization] <= 1_600 - ledger.held + size
    assert ledger.held == sum(held_by.values()) <= 1_600


def test_single_organization_holds_at_most_half_of_the_memory_in_parts() -> None:
    ledger = Ledger(max_bytes=1_000)
    while ledger.reserve_now(OURS, 10) is not None:
        pass
    assert ledger.held == 500


def test_reservation_of_any_size_fits_into_an_empty_memory() -> None:
    ledger = Ledger(max_bytes=1_000)
    assert ledger.counted(10_000) == 250
    assert ledger.reserve_now(OURS, 10_000) is not None
