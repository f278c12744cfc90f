"""The guarantees of delivery in random runs: nothing is lost, nothing is sent that must not be.

Limits and spans are made tiny, so that the rare paths are the usual ones. Several workers share the installation:
they take lanes, hand them over, are robbed of them, drain, and die.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from discue.dispatch import timers
from discue.dispatch.lane import backlog, lane
from discue.dispatch.lane.context import Tuning, memory_of
from discue.domain import window
from discue.domain.attempts import Outcome
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions
from discue.domain.model import CursorCounts, DeliveryOptions, Listener, MissedSelection, OnMissed, Queue
from discue.publishing.publish import NewMessage, entry_for
from discue.store import delivery_rows
from discue.store.engine import Append
from discue.store.recipients import find_recipient, states_of
from discue.store.redeliveries import acknowledged_among
from tests.dispatch import replays
from tests.dispatch.lane.test_filters import wanting
from tests.dispatch.lane.test_redelivery import redeliver
from tests.dispatch.paced import Paced, Place
from tests.dispatch.stage import DAY_MS, LIMITS, Reports, Sent, Stage, Worker, badly, opened, well
from tests.support.clocks import StandingClock
from tests.support.everywhere import EVERYWHERE
from tests.support.memory import folder_in_memory

SMALL_SPAN = 16
TINY = {
    window: {"SPAN": SMALL_SPAN},
    lane: {"SPAN": SMALL_SPAN},
    backlog: {"SPAN": SMALL_SPAN},
    delivery_rows: {"ROWS_A_STEP": 2},
    timers: {"_SUPERSEDED_KEPT": 4},
}
TINY_TUNING = Tuning(
    # Which requests start in the same turn depends on when commits end. A run must be the same when it is repeated.
    starts_per_turn=1_000_000,
    page_rows=4,
    due_rows=2,
    notified_held=4,
    waiting_held=3,
    missed_per_step=2,
    waiting_retries=3,
    detach_within=SMALL_SPAN // 2,
    throttle_rows=5,
    throttle_failures=6,
    most_trials=2,
    # Days go by while a request is in flight.
    report_grace_ms=1 << 60,
    ends_per_write=2,
    probes_at_once=3,
    health_records_per_write=2,
    cursors_per_release=1,
    cursors_per_claim=2,
    lanes_per_read=2,
)
TINY_LIMITS = msgspec.structs.replace(LIMITS, max_in_flight=12, listener_max_in_flight=3, tail_buffer_bytes=40)
MOST_WORKERS = 3
OUTCOMES = [well(), well(), badly(), badly(error="timeout", status=0), badly(410), badly(no_retry=True)]
LAST_ATTEMPT = 12
LONGEST_WAIT_MS = 2 * DAY_MS
QUEUES: list[tuple[bool, OnMissed]] = [(False, "pass"), (True, "pass"), (True, "block")]
"""Whether each queue is ordered, and what a missed message does to its key."""
NOT_C = wanting({"key": {"$not": "c"}})
MOST_REPLAYS = 3

Delivered = tuple[str, str, str]
"""Listener, replay ("" for none) and message."""


class KnownListener(msgspec.Struct):
    """A listener, as far as the test knows it."""

    listener: Listener
    created_after: int
    is_filtered: bool = False
    deleted: bool = False
    redelivered: int = 0
    """How many redeliveries were requested."""

    def wants(self, key: str) -> bool:
        return not self.is_filtered or key != "c"


class Event(msgspec.Struct, frozen=True):
    """Something that happens while a commit or a read is stuck."""

    what: str
    number: int
    outcome: Outcome
    milliseconds: int
    turns: int


class Published(msgspec.Struct):
    queue: Queue
    ids: list[str]
    deleted: set[str]
    keys: dict[str, str]
    stored_at: dict[str, int]


PLACES: st.SearchStrategy[Place] = st.sampled_from(["before", "after", "reading"])
MILLISECONDS = st.sampled_from([1, 1_000, 6_000, 40_000, 600_000, DAY_MS])
NUMBERS = st.integers(0, 11)
QUEUE = st.integers(0, len(QUEUES) - 1)
KEYS = st.lists(st.sampled_from("aabc"), min_size=1, max_size=12)
TROUBLES = ["dies", "leaves", "is robbed", "is robbed", "starts over", "a month", "a listener goes"]
HAPPENINGS = [
    "publish",
    "end",
    "end",
    "end",
    "time",
    "give",
    "take",
    "take",
    "look",
    "poll",
    "lapse",
    "resume",
    "old",
    "idle",
]
EVENTS = st.builds(
    Event,
    what=st.sampled_from(HAPPENINGS),
    number=NUMBERS,
    outcome=st.sampled_from(OUTCOMES),
    milliseconds=MILLISECONDS,
    turns=st.integers(0, 6),
)


class Promises(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cleanup = ExitStack()
        self.cleanup.enter_context(_tiny())
        self.runner = self.cleanup.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        folder = self.cleanup.enter_context(tempfile.TemporaryDirectory(dir=folder_in_memory()))
        self.reports = Reports()
        store = self.cleanup.enter_context(opened(self.runner, Path(folder), self.reports, Paced))
        assert isinstance(store.engine, Paced)
        self.engine = store.engine
        self.stage = Stage(store, StandingClock(), TINY_LIMITS)
        self.cleanup.callback(lambda: self.runner.run(self.stage.close()))
        self.stage.tuning = TINY_TUNING
        self.logs: list[Published] = []
        self.listeners: dict[str, KnownListener] = {}
        self.seen: dict[Worker, int] = {}
        self.robbed: set[Worker] = set()
        self.sends: Counter[Delivered] = Counter()
        self.ends: Counter[str] = Counter()
        self.failures: Counter[Delivered] = Counter()
        self.ended_well: set[Delivered] = set()
        self.given_up: set[Delivered] = set()
        self.repeated: set[Delivered] = set()
        """Acknowledged messages that were redelivered: these come in no order."""
        self.replays = 0
        # Ended since everything was stored last, each with the worker that had sent it.
        self.recent: list[tuple[Worker, Sent]] = []
        # Deliveries that may be repeated, because their worker was killed, expired or reset.
        self.excused: Counter[Delivered] = Counter()
        self.strays: set[Sent] = set()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(self.settled_after(coroutine), 20))

    async def settled_after(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a coroutine once everything that followed from it has come to rest."""
        result = await coroutine
        await self.stage.quiet()
        for worker in self.stage.workers:
            while 0 < worker.dispatcher.timers.next_at <= self.stage.clock.now():
                worker.dispatcher.timers.wake_due()
                await self.stage.quiet()
        self.recent.clear()
        return result

    @initialize()
    def queues_with_listeners_and_messages(self) -> None:
        async def work() -> None:
            for ordered, on_missed in QUEUES:
                organization = await self.stage.organization()
                queue = await self.stage.queue(organization, ordered=ordered, on_missed=on_missed)
                self.logs.append(Published(queue, [], set(), {}, {}))
            await self.stage.start()
            await self.stage.join()

        self.run(work())
        for which in (0, 1, 2):
            self.a_listener_is_created(which, is_filtered=which == 0)
            self.messages_are_published(which, list("aabbac"))

    @precondition(lambda self: len(self.listeners) < 6)
    @rule(which=QUEUE, is_filtered=st.booleans(), is_probed=st.booleans())
    def a_listener_is_created(self, which: int, *, is_filtered: bool, is_probed: bool = True) -> None:
        log = self.logs[which]
        options, liveness_url = NOT_C if is_filtered else DeliveryOptions(), None if is_probed else ""
        listener = self.run(self.stage.listener(log.queue, options, liveness_url=liveness_url))
        self.listeners[listener.public_id] = KnownListener(listener, len(log.ids), is_filtered)

    @rule(which=QUEUE, keys=KEYS)
    def messages_are_published(self, which: int, keys: list[str]) -> None:
        self.run(self.published(which, keys))

    @rule(index=NUMBERS)
    def missed_messages_are_redelivered(self, index: int) -> None:
        if living := self.living():
            self.run(self.redelivered(living[index % len(living)]))

    @rule(index=NUMBERS)
    def acknowledged_messages_are_redelivered(self, index: int) -> None:
        if living := self.living():
            self.run(self.repeats(living[index % len(living)]))

    @precondition(lambda self: self.in_flight())
    @rule(index=NUMBERS)
    def a_request_fails_for_good_and_its_message_is_redelivered(self, index: int) -> None:
        worker, sent = self.in_flight()[index % len(self.in_flight())]
        self.run(self.ended(worker, [sent], badly(no_retry=True)))
        # A request outlasts its listener.
        if not self.listeners[sent.listener_id].deleted:
            self.run(self.redelivered(self.listeners[sent.listener_id]))

    @precondition(lambda self: self.replays < MOST_REPLAYS)
    @rule(index=NUMBERS, first=st.integers(1, 6))
    def messages_are_replayed(self, index: int, first: int) -> None:
        if living := self.living():
            self.replays += 1
            self.run(replays.ask(self.stage, living[index % len(living)].listener, first))

    @precondition(lambda self: self.in_flight())
    @rule(index=NUMBERS, outcome=st.sampled_from(OUTCOMES))
    def a_request_ends(self, index: int, outcome: Outcome) -> None:
        self.run(self.ended_one(index, outcome))

    @rule(place=PLACES, events=st.lists(EVENTS, min_size=1, max_size=8))
    def things_happen_while_the_store_is_slow(self, place: Place, events: list[Event]) -> None:
        self.engine.slow = place
        self.run(self.happened(events, dies=None))

    @rule(place=PLACES, events=st.lists(EVENTS, min_size=1, max_size=8), index=NUMBERS)
    def a_process_dies_while_the_store_is_slow(self, place: Place, events: list[Event], index: int) -> None:
        self.engine.slow = place
        self.run(self.happened(events, dies=self.one(index)))

    @precondition(lambda self: self.in_flight())
    @rule(outcome=st.sampled_from(OUTCOMES[:3]), rounds=st.integers(1, 4), index=NUMBERS)
    def all_requests_but_the_oldest_end(self, outcome: Outcome, rounds: int, index: int) -> None:
        worker = self.one(index)
        for _ in range(rounds):
            self.run(self.ended(worker, worker.courier.in_flight[1:], outcome))

    @rule(statuses=st.lists(st.sampled_from([200, 404, 503, 503]), min_size=1, max_size=4))
    def probes_come_back(self, statuses: list[int]) -> None:
        for status in statuses:
            self.run(self.probed(status))
            self.run(self.stage.advance(34_000))

    async def probed(self, status: int) -> None:
        while any(worker.scout.in_flight for worker in self.stage.workers):
            for worker in self.stage.workers:
                for asked in tuple(worker.scout.in_flight):
                    asked.end(status)

    @rule(milliseconds=MILLISECONDS)
    def time_goes_by(self, milliseconds: int) -> None:
        self.run(self.stage.advance(milliseconds))

    @rule()
    def lanes_of_idle_cursors_are_dropped(self) -> None:
        self.run(self.stage.drop_idle())

    @rule(index=NUMBERS, status=st.sampled_from(["enabled", "enabled", "disabled"]))
    def a_listener_is_changed(self, index: int, status: str) -> None:
        if living := self.living():
            self.run(self.stage.configure(living[index % len(living)].listener, status=status))

    @rule(index=NUMBERS, url=st.sampled_from(["", "https://example.com/live/other"]))
    def the_liveness_url_of_a_listener_is_changed(self, index: int, url: str) -> None:
        if living := self.living():
            self.run(self.stage.configure(living[index % len(living)].listener, liveness_url=url))

    @invariant()
    def no_listener_is_held_back_without_a_liveness_url(self) -> None:
        lanes = [lane for worker in self.honest() for lane in worker.lanes if lane.owned.is_active]
        assert all(each.limits.breaker.is_closed for each in lanes if not each.owned.endpoint.liveness_url)

    @rule(index=NUMBERS)
    def a_message_is_deleted(self, index: int) -> None:
        kept = [(log, each) for log in self.logs for each in log.ids if each not in log.deleted]
        if kept:
            log, message = kept[-1 - index % len(kept)]
            log.deleted.add(message)
            self.run(self.stage.delete_message(log.queue, message))
            self.take_note()

    @precondition(lambda self: len(self.stage.workers) < MOST_WORKERS)
    @rule(takes=st.booleans())
    def another_process_starts(self, *, takes: bool) -> None:
        worker = self.run(self.stage.join())
        if takes:
            self.run(self.stage.take_free(worker))

    @rule(index=NUMBERS, outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=4, max_size=4))
    def a_process_drains_until_its_requests_have_ended(self, index: int, outcomes: list[Outcome]) -> None:
        self.run(self.drained(self.one(index), outcomes))

    @rule(index=NUMBERS, taker=NUMBERS, which=st.integers(1, 63))
    def lanes_move(self, index: int, taker: int, which: int) -> None:
        self.lanes_are_given(index, taker, which)

    @rule(index=NUMBERS, which=st.integers(1, 63), outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=6))
    def lanes_move_and_requests_end(self, index: int, which: int, outcomes: list[Outcome]) -> None:
        self.lanes_are_given(index, index + 1, which)
        for outcome in outcomes:
            self.run(self.ended_one(0, outcome))
        self.run(self.stage.check_inherited())

    def lanes_are_given(self, index: int, taker: int, which: int) -> None:
        async def work() -> None:
            giver = self.one(index)
            given = [key for bit, key in enumerate(giver.dispatcher.lanes.cursors) if which >> bit & 1]
            await giver.dispatcher.hand_over(given)
            await self.stage.take_free(self.one(taker))

        self.run(work())

    @rule(index=NUMBERS)
    def somebody_looks_around(self, index: int) -> None:
        async def work() -> None:
            await self.stage.take_free(self.one(index))
            await self.stage.poll()
            await self.stage.check_inherited()

        self.run(work())

    @rule(index=NUMBERS, holds=st.booleans())
    def a_lease_lapses_or_is_renewed(self, index: int, *, holds: bool) -> None:
        self.run(self.held(self.one(index), holds=holds))

    @rule(index=NUMBERS, what=st.sampled_from(TROUBLES))
    def there_is_trouble(self, index: int, what: str) -> None:
        """Rarer than what happens all the time."""
        worker = self.one(index)
        match what:
            case "dies":
                self.run(self.died(worker, starts=index % 2 == 0))
            case "leaves":
                self.run(self.left(worker))
            case "is robbed" if len(self.honest()) > 1 and worker not in self.robbed:
                self.run(self.robbed_of_all(worker))
            case "starts over":
                self.excuse(worker)
                self.run(worker.dispatcher.registry.reset())
            case "a month":
                self.stage.clock.advance(31 * DAY_MS)
                for each in self.stage.workers:
                    self.run(each.dispatcher.miss_too_old())
            case "a listener goes" if living := self.living():
                known = living[index % len(living)]
                known.deleted = True
                self.run(self.stage.delete_listener(known.listener))
                self.take_note()

    @precondition(lambda self: self.robbed)
    @rule()
    def one_that_was_taken_for_dead_finds_out(self) -> None:
        for worker in tuple(self.robbed):
            self.run(self.stage.revive(worker))
            self.robbed.discard(worker)

    def one(self, index: int) -> Worker:
        return self.stage.workers[index % len(self.stage.workers)]

    def living(self) -> list[KnownListener]:
        return [known for known in self.listeners.values() if not known.deleted]

    def honest(self) -> list[Worker]:
        return [worker for worker in self.stage.workers if worker not in self.robbed]

    async def held(self, worker: Worker, *, holds: bool) -> None:
        if worker in self.robbed:
            return
        worker.lease.holds = holds
        if holds:
            worker.dispatcher.on_lease_renewed()

    def in_flight(self) -> list[tuple[Worker, Sent]]:
        return [(worker, sent) for worker in self.stage.workers for sent in worker.courier.in_flight]

    def excuse(self, worker: Worker) -> None:
        """Allow that requests in flight, and outcomes that are not stored, are repeated."""
        unsure = [sent for sender, sent in self.recent if sender is worker]
        for sent in (*worker.courier.in_flight, *unsure):
            self.excused[_delivered(sent)] += 1
            self.strays.add(sent)

    async def died(self, worker: Worker, *, starts: bool) -> None:
        self.excuse(worker)
        self.forget(worker)
        await self.stage.die(worker)
        if starts or not self.honest():
            await self.stage.take_free(await self.stage.join())

    async def left(self, worker: Worker) -> None:
        await worker.dispatcher.drain(0)
        self.excuse(worker)
        self.forget(worker)
        await self.stage.leave(worker)
        if not self.honest():
            await self.stage.take_free(await self.stage.join())

    async def drained(self, worker: Worker, outcomes: list[Outcome]) -> None:
        draining = asyncio.ensure_future(worker.dispatcher.drain(20))
        for _ in range(outcomes[0].status % 7):
            await asyncio.sleep(0)
        number = 0
        while worker.courier.in_flight:
            await self.ended(worker, worker.courier.in_flight[:1], outcomes[number % 4])
            number += 1
        await draining
        if worker not in self.robbed:
            assert not worker.dispatcher.handover_outcomes.in_flight
            self.recent.clear()
        await self.left(worker)

    def forget(self, worker: Worker) -> None:
        self.take_note()
        self.robbed.discard(worker)
        self.seen.pop(worker)

    async def robbed_of_all(self, worker: Worker) -> None:
        worker.lease.holds = False
        self.excuse(worker)
        self.robbed.add(worker)
        await self.stage.steal(worker)

    async def published(self, which: int, keys: list[str]) -> None:
        log = self.logs[which]
        queue, now = log.queue, self.stage.clock.now()
        drafts = [NewMessage(b'"hello"', JSON_VALUE, options=MessageOptions(key=key)) for key in keys]
        entries = tuple(entry_for(self.stage.public_ids.next(), each, ordered=queue.ordered) for each in drafts)
        log.keys.update((entry.id, key) for entry, key in zip(entries, keys, strict=True))
        log.stored_at.update((entry.id, now) for entry in entries)
        append = Append(queue.organization, queue.id, queue.config_version, now, entries)
        appended = await self.stage.store.append(append)
        log.ids.extend(entry.id for entry in appended.entries)
        assert [entry.seq for entry in appended.entries] == list(range(len(log.ids) - len(keys) + 1, len(log.ids) + 1))

    async def redelivered(self, known: KnownListener) -> None:
        known.redelivered += 1
        await redeliver(self.stage, known.listener)

    async def repeats(self, known: KnownListener) -> None:
        """Redeliver the last acknowledged messages, as a client does that names them."""
        of = await self.stage.store.read(
            lambda tx: find_recipient(tx, known.listener.organization, known.listener.public_id)
        )
        assert of is not None
        log = self.log_of(known.listener)
        seqs = [seq for seq, each in enumerate(log.ids, 1) if each not in log.deleted]
        acknowledged = await self.stage.store.read(lambda tx: acknowledged_among(tx, of, seqs))
        states = await self.stage.store.read(lambda tx: states_of(tx, of, sorted(acknowledged)))
        chosen = tuple(sorted(seq for seq, state in states.items() if state == "acknowledged")[-3:])
        if chosen:
            known.redelivered += 1
            self.repeated.update((known.listener.public_id, "", log.ids[seq - 1]) for seq in chosen)
            selection = MissedSelection(chosen, acknowledged=chosen)
            await redeliver(self.stage, known.listener, selection, until_seq=chosen[-1])

    async def ended(self, worker: Worker, under_way: list[Sent], outcome: Outcome) -> None:
        for sent in under_way:
            delivered = _delivered(sent)
            if outcome.no_retry or sent.number == LAST_ATTEMPT:
                self.given_up.add(delivered)
            if outcome.acknowledged:
                self.ended_well.add(delivered)
            else:
                self.failures[delivered] += 1
            self.ends[sent.listener_id] += 1
            self.recent.append((worker, sent))
            sent.end(outcome)

    async def ended_one(self, index: int, outcome: Outcome) -> None:
        under_way = self.in_flight()
        if under_way:
            worker, sent = under_way[index % len(under_way)]
            await self.ended(worker, [sent], outcome)

    async def happened(self, events: list[Event], *, dies: Worker | None) -> None:
        going_on = []
        for event in events:
            going_on.append(asyncio.ensure_future(self.happening(event, self.one(event.number))))
            # Tasks that need no disk go on.
            for _ in range(event.turns):
                await asyncio.sleep(0)
        if dies is not None:
            self.excuse(dies)
            self.take_note()
            dies.die()
        self.engine.hurry()
        await asyncio.gather(*going_on)
        if dies is not None:
            await self.died(dies, starts=False)

    def happening(self, event: Event, worker: Worker) -> Coroutine[Any, Any, Any]:
        running = worker.dispatcher
        happenings: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "publish": lambda: self.published(event.number % 3, list("abacab"[event.number // 2 :])),
            "end": lambda: self.ended_one(event.number, event.outcome),
            "time": lambda: self.woken(worker, event.milliseconds),
            "give": lambda: running.hand_over(tuple(running.lanes.cursors)),
            "take": lambda: self.stage.take_some(worker),
            "look": lambda: self.looked(worker),
            "poll": lambda: self.stage.poll_for(worker),
            "lapse": lambda: self.held(worker, holds=False),
            "resume": lambda: self.held(worker, holds=True),
            "old": running.miss_too_old,
            "idle": self.stage.drop_idle,
        }
        return happenings[event.what]()

    async def woken(self, worker: Worker, milliseconds: int) -> None:
        self.stage.clock.advance(milliseconds)
        worker.dispatcher.timers.wake_due()

    async def looked(self, worker: Worker) -> None:
        worker.dispatcher.check_inherited()

    def take_note(self) -> None:
        """Count what was sent until now. It was in order."""
        for worker in self.stage.workers:
            sent = worker.courier.sent[self.seen.get(worker, 0) :]
            self.sends.update(map(_delivered, sent))
            self.seen[worker] = len(worker.courier.sent)

    @invariant()
    def nothing_is_sent_that_must_not_be(self) -> None:
        for worker in self.stage.workers:
            for each in worker.courier.sent[self.seen.get(worker, 0) :]:
                known = self.listeners[each.listener_id]
                log = self.log_of(known.listener)
                assert not known.deleted
                assert each.message_id not in log.deleted
                # A range of old messages is missed without asking the filter, and a redelivery does not ask it either.
                is_redelivered = known.redelivered and self.may_be_missed(known, log, each.message_id)
                assert known.wants(log.keys[each.message_id]) or is_redelivered
                if each.request.replay_id:
                    assert each.message_id in log.ids
                else:
                    assert each.message_id in log.ids[known.created_after :]
                    self.its_turn_had_come(known, log, each)
        self.take_note()

    def its_turn_had_come(self, known: KnownListener, log: Published, sent: Sent) -> None:
        """In an ordered queue, each earlier message of the key is settled, unless this one is a redelivery."""
        is_repeated = _delivered(sent) in self.repeated
        if not log.queue.ordered or sent.number > 1 or is_repeated or self.may_be_missed(known, log, sent.message_id):
            return
        index, key = log.ids.index(sent.message_id), log.keys[sent.message_id]
        for earlier in log.ids[known.created_after : index]:
            if log.keys[earlier] == key and known.wants(key) and earlier not in log.deleted:
                is_passed = log.queue.on_missed == "pass" and self.may_be_missed(known, log, earlier)
                assert is_passed or (known.listener.public_id, "", earlier) in self.ended_well, earlier

    def may_be_missed(self, known: KnownListener, log: Published, message: str) -> bool:
        is_old = self.stage.clock.now() - log.stored_at[message] > 29 * DAY_MS
        return is_old or (known.listener.public_id, "", message) in self.given_up

    @invariant()
    def nothing_is_sent_again_without_need(self) -> None:
        for delivered, times in self.sends.items():
            redelivered = 0 if delivered[1] else self.listeners[delivered[0]].redelivered
            assert times <= 1 + redelivered + self.failures[delivered] + self.excused[delivered], delivered

    @invariant()
    def no_delivery_is_under_way_twice(self) -> None:
        sent = [each for _, each in self.in_flight() if each not in self.strays]
        times = Counter(map(_delivered, sent))
        assert not times or max(times.values()) == 1
        of_listener = Counter(each.listener_id for each in sent)
        assert not of_listener or max(of_listener.values()) <= TINY_LIMITS.listener_max_in_flight
        keys = [key for each in sent if (key := self.key_held_by(each)) is not None]
        assert len(set(keys)) == len(keys), "two messages of one key are in flight"

    def key_held_by(self, sent: Sent) -> tuple[str, str, str] | None:
        """Return listener, replay and key of a request that must be the only one of its key, else None."""
        known = self.listeners[sent.listener_id]
        log = self.log_of(known.listener)
        passes = log.queue.on_missed == "pass" and self.may_be_missed(known, log, sent.message_id)
        passes = passes or _delivered(sent) in self.repeated
        if not log.queue.ordered or (passes and not sent.request.replay_id):
            return None
        return sent.listener_id, sent.request.replay_id, log.keys[sent.message_id]

    @invariant()
    def nothing_is_sent_without_a_lease(self) -> None:
        assert not any(worker.courier.sent_unheld for worker in self.stage.workers)

    @invariant()
    def limits_are_kept(self) -> None:
        for worker in self.stage.workers:
            running = worker.dispatcher
            assert running.limiter.in_flight == len(worker.courier.in_flight) <= TINY_LIMITS.max_in_flight
            assert running._context.budget.held == sum(
                memory_of(entry)
                for each in worker.lanes
                for entry in (*each.backlog.new, *chain(*each.backlog.waiting._by_key.values()))
            ) + sum(memory_of(retry.entry) for each in worker.lanes for retry in each.backlog.retries)
            assert len(running.timers._due) <= 2 * (2 * len(self.listeners) + self.replays + 1) + 5
            assert running.prober._limiter.in_flight == len(worker.scout.in_flight) <= 3
            assert len(running.prober._urls) <= len(worker.lanes)
            assert all(len(each.cursor.claimed) <= 100 for each in worker.lanes)
            assert running._context.inheriting.keys() <= {each.limits.inherited for each in worker.lanes}

    @invariant()
    def counts_add_up(self) -> None:
        for known in self.living():
            log = self.log_of(known.listener)
            counts, unsettled = self.run(self.counted(known.listener))
            since = log.ids[known.created_after :]
            total = counts.acknowledged + counts.missed + counts.pending
            assert len(self.expected(known)) <= total <= len(since)
            assert counts.retrying == unsettled

    def expected(self, known: KnownListener) -> list[str]:
        """Return the messages that the listener must get."""
        log = self.log_of(known.listener)
        since = log.ids[known.created_after :]
        return [each for each in since if each not in log.deleted and known.wants(log.keys[each])]

    async def counted(self, listener: Listener) -> tuple[CursorCounts, int]:
        """Return the counts of the cursor, and how many deliveries are not settled by the rows."""
        [(unsettled,)] = await self.stage.rows(
            "SELECT coalesce(sum(coalesce(blocked, 0) + CASE WHEN state = 'missed' THEN 0 ELSE 1 END), 0) "
            "FROM delivery WHERE organization = $1 AND listener = $2 AND stream = 0",
            listener.organization,
            listener.id,
        )
        return await self.stage.counts(listener), unsettled

    def teardown(self) -> None:
        try:
            if self.stage.workers:
                self.run(self.finished())
                self.every_message_came()
                assert self.reports.places == []
        finally:
            self.cleanup.close()

    async def finished(self) -> None:
        """Let all listeners succeed until nothing is pending."""
        for worker in tuple(self.robbed):
            await self.died(worker, starts=False)
        for worker in self.stage.workers:
            await self.held(worker, holds=True)
        for known in self.living():
            await self.stage.configure(known.listener, status="enabled")
        for _ in range(1_000):
            await self.everything_ended()
            if not await self.pending():
                break
            for known in self.living():
                if known.listener.queue == self.logs[2].queue.id and (await self.stage.counts(known.listener)).missed:
                    # A client decides on messages that block their keys.
                    await self.redelivered(known)
            await self.stage.advance(LONGEST_WAIT_MS)
        assert await self.pending() == 0
        for worker in self.stage.workers:
            assert not worker.dispatcher.handover_outcomes.in_flight
            assert all(each.is_settled and each.cursor.states == {} for each in worker.lanes)

    async def everything_ended(self) -> None:
        await self.stage.take_free()
        await self.stage.poll()
        await self.probed(200)
        while self.in_flight():
            for worker in self.stage.workers:
                await self.ended(worker, worker.courier.in_flight[::], well())
            await self.stage.quiet()

    async def pending(self) -> int:
        """Return how many deliveries are not settled, and replays not ended."""
        living = {known.listener.id for known in self.living()}
        streams = await self.stage.rows("SELECT listener FROM cursor WHERE stream > 0")
        unended = len([listener for (listener,) in streams if listener in living])
        return unended + sum([(await self.stage.counts(known.listener)).pending for known in self.living()])

    def every_message_came(self) -> None:
        for known in self.living():
            log = self.log_of(known.listener)
            since = log.ids[known.created_after :]
            expected = self.expected(known)
            missed = set(self.run(self.stage.missed(known.listener)))
            listener = known.listener.public_id
            assert [
                each for each in expected if (listener, "", each) not in self.ended_well and each not in missed
            ] == []
            counts = self.run(self.stage.counts(known.listener))
            assert len(expected) <= counts.acknowledged + counts.missed <= len(since)
            [(attempts,)] = self.run(
                self.stage.rows("SELECT count(*) FROM attempt WHERE listener = $1", known.listener.id)
            )
            excused = sum(times for (of, _, _), times in self.excused.items() if of == listener)
            assert self.ends[listener] - excused <= attempts <= self.ends[listener]

    def log_of(self, listener: Listener) -> Published:
        return next(log for log in self.logs if log.queue.id == listener.queue)


def _delivered(sent: Sent) -> Delivered:
    return sent.listener_id, sent.request.replay_id, sent.message_id


@contextmanager
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, values in TINY.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        # Time is moved by the test alone.
        patch.setattr(timers.Timers, "_set_timer", lambda _: None)
        yield


def test_every_promise_holds_in_a_random_run() -> None:
    run_state_machine_as_test(
        Promises,
        settings=settings(
            max_examples=100 if EVERYWHERE else 20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Making a failure smaller takes minutes: add Phase.shrink when you look for one.
            phases=(Phase.reuse, Phase.generate),
        ),
    )


def test_request_that_outlasts_its_listener_fails_without_a_redelivery() -> None:
    run = Promises()
    try:
        run.queues_with_listeners_and_messages()
        run.somebody_looks_around(0)
        _, sent = run.in_flight()[0]
        run.there_is_trouble(list(run.listeners).index(sent.listener_id), "a listener goes")
        assert run.in_flight()[0][1] is sent
        run.a_request_fails_for_good_and_its_message_is_redelivered(0)
        assert run.listeners[sent.listener_id].redelivered == 0
    finally:
        run.teardown()
