"""Ordered queues in pull mode: one message of a key at a time, whatever fails, and with any worker."""

import asyncio
import random
from collections import defaultdict

import msgspec
import pytest

from discue.control.pulls import Action, LeasedMessage
from discue.dispatch.lane.breaker import RETRYING_LIMIT
from discue.dispatch.lane.context import Tuning
from discue.dispatch.pull.broker import PullBroker
from discue.domain.errors import Unavailable
from discue.domain.model import DeliveryOptions
from discue.domain.retry import RetryOptions
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.stage import DAY_MS, Stage
from tests.support.pull_consumers import LEASE_MS, PullFixture, another_listener, pull, pull_fixture

OFTEN = DeliveryOptions(retry=RetryOptions(schedule=(5,), attempts=4, jitter=0.0), max_in_flight=7)


def _seqs(handed: list[LeasedMessage]) -> list[int]:
    return [each.entry.seq for each in handed]


async def test_one_message_of_a_key_is_leased_at_a_time(stage: Stage) -> None:
    at = await pull_fixture(stage, ordered=True)
    await stage.publish_keyed(at.queue, "a", "a", "b", "a")
    first, other = await at.pull()
    assert (first.entry.seq, other.entry.seq) == (1, 3)
    assert (await stage.counts(at.listener)).pending == 4
    await at.say("acknowledge", [first])
    (second,) = await at.pull()
    assert second.entry.seq == 2
    await at.say("acknowledge", [second, other])
    assert _seqs(await at.pull()) == [4]


async def test_acknowledgement_wakes_long_polls_for_the_next_of_the_key(stage: Stage) -> None:
    at = await pull_fixture(stage, ordered=True)
    await stage.publish_keyed(at.queue, "a", "a")
    (first,) = await at.pull()
    waiting = await at.begin_waiting()
    await at.say("acknowledge", [first])
    assert _seqs(await waiting) == [2]


async def test_filter_applies_to_a_blocked_message_at_its_turn(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(filter='{"key": "a"}'), ordered=True)
    await stage.publish_keyed(at.queue, "a", "a", "b", "a")
    await at.say("acknowledge", await at.pull())
    await stage.configure(at.listener, options=DeliveryOptions(filter='{"key": "b"}'))
    await stage.publish_keyed(at.queue, "a", "b")
    assert _seqs(await at.pull()) == [6]
    assert await at.pull() == []
    await stage.assert_counts(at.listener, acknowledged=1, pending=1)


async def test_messages_too_old_behind_a_held_key_take_no_place_of_a_later_one(stage: Stage) -> None:
    at = await pull_fixture(stage, ordered=True)
    await stage.publish_keyed(at.queue, "a", "b", "a")
    stage.clock.advance(30 * DAY_MS - LEASE_MS // 2)
    first = await at.pull(1)
    stage.clock.advance(LEASE_MS - 1)
    await at.pulls.miss_too_old()
    await stage.publish_keyed(at.queue, "a")
    assert await at.pull() == []
    await at.say("acknowledge", first)
    later = await at.pull()
    assert _seqs(later) == [4]
    await at.say("acknowledge", later)
    await stage.assert_counts(at.listener, acknowledged=2, missed=2, pending=0)


@pytest.mark.parametrize("decided", ["redelivered", "deleted"])
async def test_missed_message_blocks_its_key_until_it_is_redelivered_or_deleted(stage: Stage, decided: str) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True, on_missed="block")
    at = await another_listener(stage, queue, DeliveryOptions(retry=RetryOptions(attempts=1)))
    ids = await stage.publish_keyed(queue, "a", "a", "b")
    first, other = await at.pull()
    await at.say("reject", [first])
    await at.say("acknowledge", [other])
    await stage.publish_keyed(queue, "a")
    assert await at.pull() == []
    assert await stage.rows("SELECT seq, state, blocked FROM delivery") == [(1, "missed", 2)]
    await stage.assert_counts(at.listener, missed=1, acknowledged=1, pending=2)
    if decided == "deleted":
        await stage.delete_message(queue, ids[0])
    else:
        await redeliver(stage, at.listener)
        again = await at.pull()
        assert _seqs(again) == [1]
        await at.say("acknowledge", again)
    for seq in (2, 4):
        handed = await at.pull()
        assert _seqs(handed) == [seq]
        await at.say("acknowledge", handed)
    assert await stage.rows("SELECT seq FROM delivery") == []
    await stage.assert_counts(at.listener, missed=0, pending=0, retrying=0)


async def test_redelivery_starts_however_many_messages_are_blocked(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True, on_missed="block")
    at = await another_listener(stage, queue, DeliveryOptions(retry=RetryOptions(attempts=1)))
    await stage.publish_keyed(queue, *(["a"] * (Tuning().waiting_retries + 2)))
    await at.say("reject", await at.pull())
    assert await at.pull() == []
    assert (await stage.counts(at.listener)).retrying > Tuning().waiting_retries
    await redeliver(stage, at.listener)
    for seq in (1, 2, 3):
        handed = await at.pull()
        assert _seqs(handed) == [seq]
        await at.say("acknowledge", handed)


async def test_failing_key_with_many_blocked_messages_stops_no_other_key(stage: Stage) -> None:
    at = await pull_fixture(
        stage, DeliveryOptions(retry=RetryOptions(schedule=(5,), attempts=9, jitter=0.0)), ordered=True
    )
    await stage.publish_keyed(at.queue, *(["a"] * (RETRYING_LIMIT + 1)))
    while (await stage.counts(at.listener)).retrying <= RETRYING_LIMIT:
        await at.say("reject", await at.pull())
        stage.clock.advance(1_000)
    stage.clock.advance(5_000)
    await stage.publish_keyed(at.queue, "b", "c")
    assert _seqs(await at.pull()) == [1, RETRYING_LIMIT + 2, RETRYING_LIMIT + 3]


async def test_deletion_of_a_blocking_message_wakes_long_polls(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True, on_missed="block")
    at = await another_listener(stage, queue, DeliveryOptions(retry=RetryOptions(attempts=1)))
    ids = await stage.publish_keyed(queue, "a", "a")
    await at.say("reject", await at.pull())
    waiting = await at.begin_waiting()
    assert not waiting.done()
    await stage.delete_message(queue, ids[0])
    at.pulls.on_change("message", queue.organization, queue.id)
    assert _seqs(await waiting) == [2]


async def test_the_next_of_a_key_follows_a_message_that_was_deleted_or_missed(stage: Stage) -> None:
    at = await pull_fixture(stage, DeliveryOptions(retry=RetryOptions(attempts=1)), ordered=True)
    ids = await stage.publish_keyed(at.queue, "a", "a", "a", "a")
    await at.say("reject", await at.pull())
    second = await at.pull()
    assert _seqs(second) == [2]
    await stage.delete_message(at.queue, ids[1])
    await stage.delete_message(at.queue, ids[2])
    await at.say("release", second)
    last = await at.pull()
    assert _seqs(last) == [4]
    await at.say("acknowledge", last)
    await stage.assert_counts(at.listener, missed=1, acknowledged=1, pending=0)


class History:
    """Consumers that do this and that with what they get from any of some workers, and what must hold of it."""

    def __init__(self, at: PullFixture, seed: int, keys: int) -> None:
        self.at = at
        self.chance = random.Random(seed)  # noqa: S311 - repeatable
        self.keys = [chr(ord("a") + number) for number in range(keys)]
        self.key_of: dict[str, str] = {}
        self.workers = [at.pulls, at.worker()]
        self.held: dict[str, LeasedMessage] = {}
        self.settled: set[str] = set()
        self.first_seen: dict[str, list[str]] = defaultdict(list)

    async def publish(self) -> None:
        keys = [self.chance.choice(self.keys) for _ in range(self.chance.randrange(1, 6))]
        ids = await self.at.stage.publish_keyed(self.at.queue, *keys)
        self.key_of.update(zip(ids, keys, strict=True))

    async def pull(self) -> None:
        now = self.at.stage.clock.now()
        worker = self.chance.choice(self.workers)
        for handed in await self.at.pull(self.chance.randrange(1, 9), worker=worker):
            self.take(handed, now)

    def take(self, handed: LeasedMessage, now: int) -> None:
        message = handed.entry.id
        before = self.held.get(message)
        assert message not in self.settled
        assert before is None or before.leased_until <= now
        if self.at.queue.ordered:
            key = self.key_of[message]
            leased = [each for each, held in self.held.items() if held.leased_until > now and self.key_of[each] == key]
            assert leased == []
            if message not in self.first_seen[key]:
                published = [each for each, of in self.key_of.items() if of == key]
                earlier = published[: published.index(message)]
                assert [each for each in earlier if each not in self.settled] == []
                self.first_seen[key].append(message)
        self.held[message] = handed

    async def say(self) -> None:
        if not self.held:
            return
        handed = self.chance.choice(list(self.held.values()))
        action: Action = self.chance.choice(["acknowledge", "acknowledge", "reject", "release", "extend"])
        self.at.pulls = self.chance.choice(self.workers)
        seconds = self.chance.choice([None, 1, 20])
        (answered,) = await self.at.say(action, [handed], seconds)
        if answered == "extended":
            lease_ms = LEASE_MS if seconds is None else seconds * 1_000
            until = self.at.stage.clock.now() + lease_ms
            self.held[handed.entry.id] = msgspec.structs.replace(handed, leased_until=until)
            return
        if answered in {"acknowledged", "settled"}:
            self.settled.add(handed.entry.id)
        if self.held.get(handed.entry.id) is handed:
            del self.held[handed.entry.id]

    async def look_for_missed(self) -> None:
        missed = {row[0] for row in await self.at.delivery_rows() if row[1] == "missed"}
        ids = list(self.key_of)
        self.settled |= {ids[seq - 1] for seq in missed}

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await self.look_for_missed()
            await self.chance.choice([self.publish, self.pull, self.pull, self.say, self.say, self.pass_time])()
        await self.finish()

    async def pass_time(self) -> None:
        self.at.stage.clock.advance(self.chance.choice([1, 3_000, 12_000, LEASE_MS]))

    async def finish(self) -> None:
        """Everything is settled in the end, and counted once."""
        for _ in range(10_000):
            await self.look_for_missed()
            now = self.at.stage.clock.now()
            handed = await self.at.pull(10)
            for each in handed:
                self.take(each, now)
                assert await self.at.say("acknowledge", [each]) == ["acknowledged"]
                self.settled.add(each.entry.id)
                del self.held[each.entry.id]
            if len(self.settled) == len(self.key_of):
                break
            self.at.stage.clock.advance(0 if handed else 5_000)
        counts = await self.at.stage.counts(self.at.listener)
        assert self.settled == set(self.key_of)
        assert (counts.pending, counts.retrying, counts.acknowledged + counts.missed) == (0, 0, len(self.key_of))
        assert {row[1] for row in await self.at.delivery_rows()} <= {"missed"}


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
async def test_messages_are_settled_once_and_in_order_in_random_runs(stage: Stage, kind: str) -> None:
    for seed in range(2):
        queue = await stage.queue(await stage.organization(), ordered=kind == "ordered")
        at = await another_listener(stage, queue, OFTEN, number=900 + seed)
        await History(at, seed, keys=3).run(60)


async def test_consumers_of_several_workers_at_once_get_each_message_once(stage: Stage) -> None:
    at = await pull_fixture(stage, ordered=True)
    keys = [f"k{number % 8}" for number in range(80)]
    await stage.publish_keyed(at.queue, *keys)
    done: list[int] = []

    async def consume(worker: PullBroker) -> None:
        while len(done) < len(keys):
            try:
                handed = await pull(worker, at.place, 3, 0)
            except Unavailable:
                continue
            for each in handed:
                assert all(seq in done for seq in range(1, each.entry.seq) if seq % 8 == each.entry.seq % 8)
            done.extend(_seqs(handed))
            await at.say("acknowledge", handed)

    await asyncio.gather(*(consume(worker) for worker in (at.pulls, at.worker(), at.worker())))
    assert sorted(done) == list(range(1, 81))
    assert (await stage.counts(at.listener)).acknowledged == 80
