"""Changes by other workers: two workers on one database, each with an engine of its own."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest

from discue.config.settings import Settings
from discue.control.pulls import PullTarget
from discue.dispatch import poller
from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.retention import Retention
from discue.dispatch.jobs.scheduler import Scheduler, ScheduleRuns
from discue.dispatch.lane.context import Sources, WorkerSession
from discue.dispatch.lease import Leadership, Lease
from discue.dispatch.ownership import Ownership
from discue.dispatch.poller import Poller
from discue.dispatch.pull.broker import PullBroker
from discue.dispatch.pull.session import PullContext
from discue.dispatch.registry import LaneIndex
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.domain.errors import StoreUnavailable
from discue.domain.ids import RowIds
from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Queue
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.sending.request import AttemptRequest
from discue.store import feed, listeners, organizations, purge, queues, workers
from discue.store.engine import Append, ClusterSnapshot, NewEntry, Notification, QueueKey, Transaction
from discue.store.purge import Job
from discue.store.store import Store
from tests.dispatch.stage import LIMITS, SECRET, Scout
from tests.store.rows import a_listener, a_queue, an_organization, row_id
from tests.support.cast import control_of
from tests.support.pull_consumers import pull
from tests.support.stores import opened_store

LEASE_SECONDS = 60
TIMES = Settings(retention_seconds=1, missed_retention_seconds=1, attempt_retention_seconds=1)
PATIENCE_SECONDS = 10
NOW = SystemClock().now()


class Courier:
    """Keeps the ids of the messages that it is to send."""

    def __init__(self, moved: asyncio.Event) -> None:
        self.ids: list[str] = []
        self._moved = moved

    def __call__(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        self.ids.append(request.message_id)
        self._moved.set()


class Post:
    """A worker without its API. `slow_seconds` is how long each poll takes; `error` is raised by it instead."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, log = SystemClock(), Log("test")
        row_ids = RowIds(clock)
        self.store = store
        self._moved = asyncio.Event()
        self.courier = Courier(self._moved)
        control = replace(control_of(store, clock), row_ids=row_ids, settings=TIMES)
        self.cache = control.cache
        trace_ids = TraceIds(Random(0).randbytes)  # noqa: S311 - repeatable
        self.session = WorkerSession(clock)
        self.dispatcher = Dispatcher(
            store,
            send=self.courier,
            probe=Scout(),
            limits=LIMITS,
            sources=Sources(clock, Random(0).random, row_ids, trace_ids, log),  # noqa: S311
            session=self.session,
            on_missed=lambda: None,
            on_unowned=lambda: None,
        )
        self.lease = Lease(
            store,
            self.session,
            row_ids,
            "all",
            seconds=LEASE_SECONDS,
            on_expired=self.dispatcher.registry.drop_all,
            on_held=self.dispatcher.on_lease_renewed,
        )
        leadership = Leadership()
        self.retention = Retention(control, self.dispatcher, leadership)
        self.scheduler = Scheduler(store, ScheduleRuns(control), clock, leadership)
        on_recorded = self.scheduler.on_snapshot
        self.ownership = Ownership(store, self.dispatcher, self.lease, leadership, log=log, on_recorded=on_recorded)
        self.pulls = PullBroker(
            PullContext(store, clock, row_ids, Random(0).random, 50, 1 << 40, trace_ids, lambda: None, lambda *_: None),  # noqa: S311
            log,
        )
        self.poller = Poller(
            control,
            log,
            self.dispatcher,
            self.ownership,
            pulls=self.pulls,
            on_jobs=self.retention.request_purge,
            on_intake=lambda: None,
            requested=asyncio.Event(),
        )
        self.polls: list[Sequence[QueueKey]] = []
        self.polls_at_once = self.most_polls_at_once = 0
        self.slow_seconds = 0.0
        self.error: Exception | None = None
        self._poll = store.engine.poll
        monkeypatch.setattr(store.engine, "poll", self._counted)
        self._running: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.cache.open()
        await self.lease.join()
        self.store.on_append = [self.dispatcher.on_appended]
        self.cache.follow(self.dispatcher.on_change)
        await self.ownership.begin(())
        self.polls.clear()

    async def poll(self) -> None:
        """At once, and once."""
        self.poller.request_poll()
        await self.poller.run_once()

    def run(self) -> None:
        """Look, again and again, until `end`."""
        self._running = asyncio.get_running_loop().create_task(self._rounds())

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self.dispatcher.drain(0)

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached():
                self._moved.clear()
                await self._moved.wait()

    async def _rounds(self) -> None:
        while True:
            await self.poller.run_once()
            self._moved.set()

    async def _counted(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        self.polls.append(queues)
        self.polls_at_once += 1
        self.most_polls_at_once = max(self.most_polls_at_once, self.polls_at_once)
        self._moved.set()
        try:
            await asyncio.sleep(self.slow_seconds)
            if self.error is not None:
                raise self.error
            return await self._poll(queues)
        finally:
            self.polls_at_once -= 1


@pytest.fixture
def elsewhere(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Store]:
    """Return the store of another process."""
    with opened_store(runner, "sqlite", tmp_path) as store:
        yield store


@pytest.fixture
def post(runner: asyncio.Runner, elsewhere: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    with opened_store(runner, "sqlite", tmp_path) as store:
        made = Post(store, monkeypatch)
        runner.run(made.begin())
        try:
            yield made
        finally:
            runner.run(made.end())


@pytest.fixture
def only_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at because of the time: a look that comes, a hint has caused."""
    monkeypatch.setattr("discue.dispatch.poller._INTERVAL_SECONDS", 3_600)


async def make_queue(store: Store) -> Queue:
    organization = an_organization(1)
    queue = a_queue(organization.id, 2)
    listener = msgspec.structs.replace(a_listener(queue, 3), secrets=msgspec.json.encode([{"text": SECRET}]))

    async def work(tx: Transaction) -> None:
        await organizations.insert(tx, organization)
        await queues.insert(tx, queue)
        await listeners.insert(tx, listener, 0)

    await store.write(work)
    return queue


async def publish(store: Store, queue: Queue, number: int) -> str:
    public_id = f"{number:021}"
    entries = (NewEntry(public_id, JSON_VALUE, b"1"),)
    await store.append(Append(queue.organization, queue.id, queue.config_version, NOW, entries))
    return public_id


async def join_elsewhere(store: Store, role: str = "api", *, session_id: int = 4_711) -> None:
    await store.write(partial(workers.join, session_id=session_id, role=role, lease_ms=60_000))


async def test_messages_of_other_workers_are_found_by_polling(post: Post, elsewhere: Store) -> None:
    await join_elsewhere(elsewhere)
    queue = await make_queue(elsewhere)
    post.run()
    await post.until(lambda: len(post.dispatcher.lanes))
    message = await publish(elsewhere, queue, 1)
    await post.until(lambda: post.courier.ids == [message])


async def test_long_poll_gets_messages_of_other_workers(post: Post, elsewhere: Store) -> None:
    await join_elsewhere(elsewhere)
    queue = await make_queue(elsewhere)
    for _ in range(2):
        await post.poll()
    puller = msgspec.structs.replace(a_listener(queue, 4), mode="pull", alias="puller")
    await elsewhere.write(lambda tx: listeners.insert(tx, puller, 0))
    place = PullTarget(queue.organization, puller.id, queue.id)
    for told_by in (post.poll, lambda: _hint(post, queue, 2)):
        waiting = asyncio.get_running_loop().create_task(pull(post.pulls, place, 1, 60_000))
        while post.pulls.queues == () or post.pulls.tasks.running:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0)
        message = await publish(elsewhere, queue, len(post.polls) + 1)
        await told_by()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [each.entry.id for each in await waiting] == [message]


async def _hint(post: Post, queue: Queue, head: int) -> None:
    post.poller.on_notify(Notification(heads=(((queue.organization, queue.id), head),)))


async def test_notified_heads_reach_the_lanes_without_a_poll(post: Post, elsewhere: Store) -> None:
    queue = await make_queue(elsewhere)
    await post.poll()
    polls = len(post.polls)
    message = await publish(elsewhere, queue, 1)
    post.poller.on_notify(Notification(heads=(((queue.organization, queue.id), 1),)))
    await post.until(lambda: post.courier.ids == [message])
    assert len(post.polls) == polls


async def test_single_worker_polls_no_heads_and_others_those_of_their_queues(post: Post, elsewhere: Store) -> None:
    queue = await make_queue(elsewhere)
    await post.poll()
    await join_elsewhere(elsewhere)
    for _ in range(2):
        await post.poll()
    assert post.polls == [(), (), ((queue.organization, queue.id),)]


async def test_heads_of_many_queues_are_read_in_turn_or_all_after_an_unknown_commit(
    post: Post, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tuple((1, number) for number in range(5))
    monkeypatch.setattr(LaneIndex, "queues", keys)
    monkeypatch.setattr(poller, "_QUEUES_AT_ONCE", 2)
    await join_elsewhere(elsewhere)
    await post.poll()
    for _ in range(4):
        await post.poll()
    assert [len(queues) for queues in post.polls] == [0, 2, 2, 1, 2]
    assert sorted(key for queues in post.polls[1:4] for key in queues) == list(keys)
    post.error = StoreUnavailable("Down.")
    post.poller.on_notify(Notification(anything=True))
    await post.poller.run_once()
    post.error = None
    await post.poll()
    assert [sorted(queues) for queues in post.polls[5:]] == [list(keys), list(keys)]


@pytest.fixture
def five_queues(monkeypatch: pytest.MonkeyPatch) -> tuple[QueueKey, ...]:
    """Queues of which a poll reads one head, or three after the end of another worker."""
    keys = tuple((1, number) for number in range(5))
    monkeypatch.setattr(LaneIndex, "queues", keys)
    monkeypatch.setattr(poller, "_QUEUES_AT_ONCE", 1)
    monkeypatch.setattr(poller, "_QUEUES_AFTER_AN_END", 3)
    return keys


@pytest.mark.usefixtures("five_queues")
async def test_heads_are_read_faster_after_the_end_of_another_worker(post: Post, elsewhere: Store) -> None:
    await join_elsewhere(elsewhere)
    await join_elsewhere(elsewhere, session_id=4_712)
    for _ in range(3):
        await post.poll()
    await elsewhere.write(partial(workers.expire_worker, session_id=4_712, known_dead=True))
    for _ in range(5):
        await post.poll()
    assert [len(queues) for queues in post.polls] == [0, 1, 1, 1, 3, 2, 1, 1]


async def test_heads_are_read_once_after_the_end_of_the_last_other_worker(
    post: Post, elsewhere: Store, five_queues: tuple[QueueKey, ...]
) -> None:
    """It may have stored messages that it did not announce."""
    await join_elsewhere(elsewhere)
    await post.poll()
    await elsewhere.write(partial(workers.expire_worker, session_id=4_711, known_dead=True))
    for _ in range(5):
        await post.poll()
    assert [len(queues) for queues in post.polls] == [0, 1, 3, 2, 0, 0]
    assert sorted(key for queues in post.polls[2:4] for key in queues) == list(five_queues)


async def test_every_head_is_read_although_workers_end_one_after_another(
    post: Post, elsewhere: Store, five_queues: tuple[QueueKey, ...]
) -> None:
    await join_elsewhere(elsewhere)
    await join_elsewhere(elsewhere, session_id=4_712)
    await post.poll()
    for session_id in (4_711, 4_712):
        await elsewhere.write(partial(workers.expire_worker, session_id=session_id, known_dead=True))
        await post.poll()
    for _ in range(4):
        await post.poll()
    assert [len(queues) for queues in post.polls] == [0, 1, 3, 2, 3, 2, 0]
    assert sorted(key for queues in post.polls[2:4] for key in queues) == list(five_queues)


@pytest.mark.parametrize(
    "hint", [Notification(feed=True), Notification(cursors=True), Notification(anything=True)], ids=repr
)
async def test_many_notifications_cause_one_poll(post: Post, only_hints: None, hint: Notification) -> None:
    for _ in range(100):
        post.poller.on_notify(hint)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await post.poller.run_once()
    assert len(post.polls) == 1


@pytest.mark.parametrize(("poll_seconds", "polls", "least_seconds"), [(0.0, 25, 0.18), (0.01, 5, 0.3)])
async def test_endless_notifications_cause_one_poll_at_a_time_with_pauses_between(
    post: Post, poll_seconds: float, polls: int, least_seconds: float
) -> None:
    post.slow_seconds = poll_seconds
    post.run()
    began_at = time.monotonic()
    while len(post.polls) < polls:
        post.poller.on_notify(Notification(anything=True))
        await asyncio.sleep(0)
    # Timers of the loop may be a little early. Ten times as long as the four polls before the last one are 0.4 s.
    assert time.monotonic() - began_at >= least_seconds
    assert post.most_polls_at_once == 1


async def test_a_few_polls_after_a_quiet_time_follow_each_other_without_a_pause(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue and its listener are often made in a row."""
    monkeypatch.setattr(poller, "_BURST_SECONDS", 60.0)
    post.slow_seconds = 0.02
    for _ in range(10):
        await post.poll()
        assert post.poller._pauses_until < time.monotonic()


async def test_notification_during_a_poll_causes_another_poll(post: Post, only_hints: None) -> None:
    post.slow_seconds = 0.05
    post.run()
    post.poller.request_poll()
    await post.until(lambda: post.polls_at_once)
    post.poller.on_notify(Notification(feed=True))
    await post.until(lambda: len(post.polls) == 2)


async def test_without_notifications_there_is_a_poll_each_second(post: Post) -> None:
    began_at = time.monotonic()
    for _ in range(2):
        await post.poller.run_once()
    assert 1.9 < time.monotonic() - began_at < PATIENCE_SECONDS
    assert len(post.polls) == 2


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the events that this worker has logged: a service that other tests share logs, too."""
    return [record.message for record in caplog.records if record.name.startswith("discue.test")]


async def test_unavailable_store_is_logged_once_and_polled_again_after_a_second(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    post.error = StoreUnavailable()
    for _ in range(2):
        await post.poll()
    assert _events(caplog) == ["database_unavailable"]
    assert not post.store.healthy
    post.error = None
    began_at = time.monotonic()
    post.poller.request_poll()
    await post.poller.run_once()
    assert time.monotonic() - began_at > 0.9, "a hint does not make it come sooner"
    assert _events(caplog) == ["database_unavailable", "database_available"]


async def test_reset_after_a_lost_connection_renews_the_lease_first(
    post: Post, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await make_queue(elsewhere)
    await post.poll()
    [lane] = post.dispatcher.lanes
    known = await post.cache.queue(queue.organization, queue.public_id)
    called: list[str] = []
    for part, name in ((post.lease, "renew"), (post.cache, "reset"), (post.dispatcher.registry, "reset")):
        monkeypatch.setattr(part, name, partial(_noted, called, type(part).__name__, getattr(part, name)))
    post.poller.on_connection_lost()
    assert not post.lease.may_expire(1)
    await post.poll()
    assert called == ["Lease", "ControlPlaneCache", "LaneRegistry"]
    [again] = post.dispatcher.lanes
    assert again is not lane
    assert post.cache.cached_queue(known.organization, known.public_id) is None
    await post.poll()
    assert called == ["Lease", "ControlPlaneCache", "LaneRegistry"]


async def _noted(called: list[str], name: str, method: Callable[[], object]) -> object:
    called.append(name)
    return await method()  # type: ignore[misc]


async def test_failed_reset_is_repeated(post: Post, elsewhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await make_queue(elsewhere)
    await post.poll()
    await post.cache.queue(queue.organization, queue.public_id)

    async def fail(_: object) -> object:
        raise StoreUnavailable

    post.poller.on_connection_lost()
    with monkeypatch.context() as patched:
        patched.setattr(post.store, "read", fail)
        await post.poll()
    assert post.cache.cached_queue(queue.organization, queue.public_id) is not None
    await post.poll()
    assert post.cache.cached_queue(queue.organization, queue.public_id) is None


async def test_expired_worker_drops_its_lanes_and_takes_them_again(post: Post, elsewhere: Store) -> None:
    await make_queue(elsewhere)
    await post.poll()
    [lane] = post.dispatcher.lanes
    first = post.session.id
    await elsewhere.write(partial(workers.expire_worker, session_id=first, known_dead=True))
    await elsewhere.write(partial(workers.release_cursors, dead=first, limit=10))
    post.poller.on_connection_lost()
    await post.poll()
    assert lane.is_closed
    assert post.session.id != first
    assert [again.record.owner for again in post.dispatcher.lanes] == [post.session.id]


async def test_poll_renews_an_ended_lease(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post.session, "held_until", 0.0)
    assert not post.session.is_held()
    await post.poll()
    assert post.session.is_held()


async def test_poll_follows_changes_of_the_control_plane(post: Post, elsewhere: Store) -> None:
    queue = await make_queue(elsewhere)
    await post.cache.queue(queue.organization, queue.public_id)
    renamed = msgspec.structs.replace(queue, alias="renamed", config_version=2)

    async def rename(tx: Transaction) -> None:
        await queues.update(tx, renamed)
        await feed.record(tx, "queue", queue.organization, queue.id)

    await elsewhere.write(rename)
    post.poller.on_notify(Notification(feed=True))
    await post.poller.run_once()
    assert post.cache.cached_queue(queue.organization, queue.public_id) is None


async def test_leader_purges_when_there_is_something_to_purge(post: Post, elsewhere: Store) -> None:
    queue = await make_queue(elsewhere)
    purging = asyncio.ensure_future(post.retention.purge_on_request())
    await post.poll()
    assert not purging.done()
    job = Job(queue.organization, row_id(9), "purge_queue", queue=queue.id)
    await elsewhere.write(partial(purge.enqueue, job=job))
    await post.poll()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await purging
    assert await post.store.read(purge.next_after) is None
