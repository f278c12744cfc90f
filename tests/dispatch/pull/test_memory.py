"""Pull rounds reserve at least what they read, until their messages are in a response."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from discue.control.pulls import LeasedMessage
from discue.dispatch.pull import broker, session
from discue.dispatch.pull.receive import size_of
from discue.domain.errors import Overloaded, StoreUnavailable
from discue.store import message_log
from discue.store.engine import LogPage
from discue.store.ledger import DEFAULT_MAX_BYTES
from tests.dispatch.stage import DAY_MS, Stage
from tests.support.pull_consumers import PullFixture, another_listener, pull_fixture

BODY_BYTES = 100_000
LARGE = 3 * BODY_BYTES
SMALL = BODY_BYTES // 2


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "BODY_BYTES", BODY_BYTES)


class Reads:
    """The bodies that each round reads, and how much of them was not reserved then."""

    def __init__(self, at: PullFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.excess = 0
        ledger, page, bodies_by_seq = at.stage.store.ledger, at.stage.store.page, message_log.bodies_by_seq

        def count(bodies: Sequence[bytes]) -> None:
            size = sum(map(len, bodies))
            self.sizes.append(size)
            self.excess = max(self.excess, size - ledger.held)

        async def counted_page(*place: Any, max_bytes: int) -> LogPage:
            found = await page(*place, max_bytes=max_bytes)
            count([entry.body for entry in found.entries])
            return found

        async def counted_bodies(*args: Any, **options: Any) -> dict[int, bytes]:
            found = await bodies_by_seq(*args, **options)
            count(list(found.values()))
            return found

        monkeypatch.setattr(at.stage.store, "page", counted_page)
        monkeypatch.setattr(message_log, "bodies_by_seq", counted_bodies)


async def _publish(at: PullFixture, *sizes: int) -> None:
    for size in sizes:
        await at.stage.publish(at.queue, body=b'"%s"' % (b"x" * (size - 2)))


def _sizes(messages: Sequence[LeasedMessage]) -> list[int]:
    return [len(each.entry.body) for each in messages]


async def test_large_message_is_read_alone_after_its_size_was_reserved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await pull_fixture(stage)
    await _publish(at, LARGE, SMALL, LARGE, SMALL, SMALL)
    reads = Reads(at, monkeypatch)
    leased = [await at.pull() for _ in range(4)]
    assert [_sizes(each) for each in leased] == [[LARGE], [SMALL], [LARGE], [SMALL, SMALL]]
    for messages in leased:
        await at.say("release", messages)
    stage.clock.advance(1)
    again = [await at.pull() for _ in range(4)]
    assert [_sizes(each) for each in again] == [[LARGE], [SMALL], [LARGE], [SMALL, SMALL]]
    assert max(reads.sizes) == LARGE
    assert reads.excess <= 0
    assert stage.store.ledger.held == 0


async def test_round_with_a_due_message_leaves_a_large_new_one_to_the_next_round(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await pull_fixture(stage)
    await _publish(at, SMALL)
    await at.say("release", await at.pull(), 5)
    first, second = await at.begin_waiting(), await at.begin_waiting()
    stage.store.on_append = []
    await _publish(at, LARGE)
    reads = Reads(at, monkeypatch)
    await at.advance(5_000)
    # The second consumer does not wait for its deadline: the round reports that there is more.
    assert (first.done(), second.done()) == (True, True)
    assert (_sizes(await first), _sizes(await second)) == ([SMALL], [LARGE])
    assert reads.sizes == [SMALL, LARGE]
    assert reads.excess <= 0


async def test_consumers_share_due_messages_that_do_not_fit_in_one_round(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await _publish(at, LARGE, LARGE)
    for messages in [await at.pull(), await at.pull()]:
        await at.say("release", messages, 5)
    first, second = await at.begin_waiting(), await at.begin_waiting()
    await at.advance(5_000)
    assert (first.done(), second.done()) == (True, True)
    assert (_sizes(await first), _sizes(await second)) == ([LARGE], [LARGE])


async def test_large_message_waits_for_memory_that_a_small_one_does_not_need(stage: Stage) -> None:
    organization = await stage.organization()
    at, other = [await another_listener(stage, await stage.queue(organization), number=900 + n) for n in range(2)]
    await _publish(at, LARGE)
    await _publish(other, SMALL)
    ledger = stage.store.ledger
    with ledger.hold(at.place.organization, DEFAULT_MAX_BYTES // 2 - LARGE // 2):
        assert await at.pull() == []
        assert set(ledger.take_pressed()) == {at.place.organization}
        assert _sizes(await other.pull()) == [SMALL]
    assert _sizes(await at.pull()) == [LARGE]


async def test_messages_stay_reserved_until_their_consumer_is_done(stage: Stage) -> None:
    at = await pull_fixture(stage)
    await _publish(at, LARGE, SMALL)
    ledger = stage.store.ledger
    with at.pulls.connect(1, 1) as client:
        for size in (LARGE, SMALL):
            messages = await at.pulls.pull(client, at.place, 10, 0)
            assert _sizes(messages) == [size]
            assert 2 * size < ledger.held == size_of(messages)
        client.release()
        assert ledger.held == 0
        await _publish(at, SMALL)
        await at.pulls.pull(client, at.place, 10, 0)
        assert ledger.held > 2 * SMALL
    assert ledger.held == 0


async def test_places_of_consumers_are_shared_between_accounts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "MAX_CLIENTS", 12)
    monkeypatch.setattr(broker, "_FEW_CLIENTS", 1)
    pulls = (await pull_fixture(stage)).pulls
    with ExitStack() as open_requests:
        for account in (1, 2, 3):
            for key in range(3):
                open_requests.enter_context(pulls.connect(key, account))
        for account in (1, 4):
            if account == 4:
                open_requests.enter_context(pulls.connect(1, account))
            with pytest.raises(Overloaded), pulls.connect(1, account):
                pass
        with pulls.connect(1, 5):
            pass
    with pulls.connect(1, 1):
        pass


async def test_consumers_of_one_round_share_its_reservation(stage: Stage) -> None:
    at = await pull_fixture(stage)
    ledger = stage.store.ledger
    first, second = await at.begin_waiting(1), await at.begin_waiting(1)
    first.cancel()
    with at.pulls.connect(1, 1) as one, at.pulls.connect(2, 2) as other:
        polls = [asyncio.create_task(at.pulls.pull(client, at.place, 1, 20_000)) for client in (one, other)]
        await at.idle()
        await _publish(at, SMALL, SMALL // 2, SMALL // 4)
        taken = [await second, *[await poll for poll in polls]]
        await at.idle()
        assert sorted(map(_sizes, taken)) == [[SMALL // 4], [SMALL // 2], [SMALL]]
        assert ledger.held == sum(map(size_of, taken[1:]))
        # The response of a request holds the memory from then on.
        response = ledger.hold(at.place.organization, 0)
        one.hand_over(response)
        assert response.bytes == size_of(taken[1])
    assert ledger.held == response.bytes
    response.release()


async def test_messages_whose_json_has_no_room_are_not_leased_and_not_read_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await pull_fixture(stage)
    await _publish(at, SMALL)
    leased = await at.pull()
    await stage.publish(at.queue, body=b"\1" * LARGE)
    reads, ledger = Reads(at, monkeypatch), stage.store.ledger
    with ledger.hold(stage.row_ids.next(), DEFAULT_MAX_BYTES - 4 * LARGE):
        waiting = await at.begin_waiting()
        for _ in range(3):
            await at.advance(250)
        assert not waiting.done()
        # Decisions are stored meanwhile.
        assert await at.say("acknowledge", leased) == ["acknowledged"]
        assert (await at.delivery_rows(), reads.sizes) == ([], [LARGE])
        assert set(ledger.take_pressed()) == {at.place.organization}
    await at.advance(250)
    assert _sizes(await waiting) == [LARGE]
    assert ledger.held == 0


@pytest.mark.parametrize("ordered", [True, False])
async def test_job_reads_new_messages_behind_a_retry_only_once_they_are_too_old(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    at = await pull_fixture(stage, ordered=ordered)
    await _publish(at, SMALL)
    await at.say("release", await at.pull(), 60 * DAY_MS // 1_000)
    await _publish(at, LARGE)
    reads = Reads(at, monkeypatch)
    await at.pulls.miss_too_old()
    assert reads.sizes == []
    stage.clock.advance(31 * DAY_MS)
    await at.pulls.miss_too_old()
    # Without an order, a range is missed whose messages need not be read.
    assert reads.sizes == ([LARGE] if ordered else [])
    assert reads.excess <= 0
    assert stage.store.ledger.held == 0
    await stage.assert_counts(at.listener, head=2, retrying=1, missed=1)


async def test_failed_round_reserves_nothing_afterwards(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    at = await pull_fixture(stage)
    await _publish(at, LARGE)
    settle, refused = stage.store.settle, 0

    async def lost_once(*args: Any) -> bool:
        nonlocal refused
        assert stage.store.ledger.held > 2 * LARGE
        if not refused:
            refused = 1
            return False
        return await settle(*args)

    monkeypatch.setattr(stage.store, "settle", lost_once)
    assert _sizes(await at.pull()) == [LARGE]
    assert refused

    async def failing(*_args: Any) -> bool:
        raise StoreUnavailable

    await _publish(at, LARGE)
    monkeypatch.setattr(stage.store, "settle", failing)
    with pytest.raises(StoreUnavailable):
        await at.pull()
    assert stage.store.ledger.held == 0


async def test_cancelled_request_reserves_nothing_afterwards(stage: Stage) -> None:
    at = await pull_fixture(stage)
    waiting = await at.begin_waiting()
    waiting.cancel()
    await _publish(at, LARGE)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await at.idle()
    assert stage.store.ledger.held == 0
