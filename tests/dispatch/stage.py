"""A dispatcher on a real store, with a clock that stands still and a sender whose outcomes the test decides."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from discue.dispatch.dispatcher import Dispatcher, DispatchLimits
from discue.dispatch.lane.context import Sources, Tuning, WorkerSession
from discue.dispatch.lane.lane import Lane
from discue.domain.attempts import FailureKind, Outcome, Timings, Trace
from discue.domain.egress import Target
from discue.domain.ids import SLOTS, PublicIds, RowIds
from discue.domain.listener_health import Liveness
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions
from discue.domain.model import CursorCounts, DeliveryOptions, Listener, OnMissed, Organization, Queue
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.publishing.publish import NewMessage, entry_for
from discue.sending.fetch import FetchResult
from discue.sending.request import AttemptRequest
from discue.store import listeners, messages, missed, organizations, queues, workers
from discue.store.engine import Append, Appended, NewEntry, Row, Transaction
from discue.store.pagination import Selection
from discue.store.recipients import find_recipient
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.rows import a_listener, an_organization, counts_of, row_id
from tests.support.clocks import StandingClock
from tests.support.messages import read_message
from tests.support.stores import migrated_file

DAY_MS = 86_400_000
LIMITS = DispatchLimits(
    max_in_flight=1_024,
    listener_max_in_flight=50,
    tail_buffer_bytes=1 << 20,
    timeout_ms=15_000,
    deadline_ms=30 * DAY_MS,
    disable_after_seconds=5 * 86_400,
    attempt_details_bytes_per_hour=1 << 24,
)
SECRET = "whsec_" + "A" * 43 + "="


def well(status: int = 200) -> Outcome:
    return Outcome(status, "", "", 1)


def badly(status: int = 500, *, error: FailureKind = "status", no_retry: bool = False) -> Outcome:
    return Outcome(status, error, "It failed.", 1, no_retry=no_retry)


def with_trace(outcome: Outcome, body: bytes = b"no") -> Outcome:
    """Return the outcome as a sender reports it that keeps request and response."""
    timings = Timings(None, None, None, 1, outcome.duration_ms)
    trace = Trace(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n", (), body, len(body), "203.0.113.7:443", True, timings)
    return msgspec.structs.replace(outcome, trace=trace)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Run the event loop until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0)


class Sent:
    """A request that was passed to the sender."""

    def __init__(self, courier: "Courier", request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        self.message_id = request.message_id
        self.listener_id = request.destination.listener_id
        self.number = request.number
        self.request = request
        self._courier = courier
        self._done = done

    def end(self, outcome: Outcome) -> None:
        self._courier.in_flight.remove(self)
        self._done(outcome)


class Courier:
    """A sender that keeps requests until the test ends them."""

    def __init__(self, lease: "WorkerLease") -> None:
        self.in_flight: list[Sent] = []
        self.sent: list[Sent] = []
        self.sent_unheld = 0
        self._lease = lease

    def __call__(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        self.sent_unheld += not self._lease.is_held()
        sent = Sent(self, request, done)
        self.in_flight.append(sent)
        self.sent.append(sent)

    def ids(self) -> list[str]:
        """Return the messages whose requests are in flight, in the order in which they were sent."""
        return [sent.message_id for sent in self.in_flight]

    def end_all(self, outcome: Outcome) -> None:
        for sent in tuple(self.in_flight):
            sent.end(outcome)


class Asked:
    """A probe that was passed to the scout."""

    def __init__(self, scout: "Scout", target: Target, done: Callable[[FetchResult], None]) -> None:
        self.url = f"{target.scheme}://{target.authority}{target.path}"
        self._scout = scout
        self._done = done

    def end(self, status: int = 200, error: FailureKind = "") -> None:
        self._scout.in_flight.remove(self)
        self._done(FetchResult(0 if error else status, b"", error))


class Scout:
    """A sender of probes that keeps them until the test ends them."""

    def __init__(self) -> None:
        self.in_flight: list[Asked] = []
        self.asked: list[str] = []

    def __call__(self, target: Target, done: Callable[[FetchResult], None]) -> None:
        asked = Asked(self, target, done)
        self.in_flight.append(asked)
        self.asked.append(asked.url)


class WorkerLease(WorkerSession):
    """A worker's session whose lease lapses when the test says so."""

    holds = True

    def is_held_at(self, monotonic: float) -> bool:
        del monotonic
        return self.holds


class Worker:
    """A process: its dispatcher, sender and lease. `looks` is set when it wants to claim free cursors."""

    def __init__(self, stage: "Stage", lease: WorkerLease, slot: int) -> None:
        self.lease = lease
        self.courier = Courier(lease)
        self.scout = Scout()
        self.on_missed: Callable[[], None] = lambda: None
        sources = Sources(
            stage.clock,
            Random(0).random,  # noqa: S311 - repeatable
            RowIds(stage.clock, slot),
            TraceIds(Random(0).randbytes),  # noqa: S311
            Log("test"),
        )
        self.dispatcher = Dispatcher(
            stage.store,
            send=self.courier,
            probe=self.scout,
            limits=msgspec.structs.replace(stage.limits, tuning=stage.tuning),
            sources=sources,
            session=lease,
            on_missed=self._miss,
            on_unowned=self._look,
        )
        self.looks = False

    @property
    def session_id(self) -> int:
        return self.lease.id

    @property
    def lanes(self) -> list[Lane]:
        return list(self.dispatcher.lanes)

    def _look(self) -> None:
        self.looks = True

    def _miss(self) -> None:
        self.on_missed()

    def die(self) -> None:
        """Stop storing what it knows. Its requests get no outcome."""
        dispatcher = self.dispatcher
        dispatcher.timers.stop()
        dispatcher.handover_outcomes.close()
        dispatcher.registry.is_closed = True
        for lane in dispatcher.lanes:
            lane.close()
        for task in tuple(dispatcher.tasks.running):
            task.cancel()


class Stage:
    """An installation. `start` runs a worker on it; a second `start` is a restart after a crash.

    `join` adds a worker. Methods that do not name a worker mean the one that joined last.
    """

    def __init__(self, store: Store, clock: StandingClock, limits: DispatchLimits = LIMITS) -> None:
        self.store = store
        self.clock = clock
        self.limits = limits
        self.tuning = Tuning()
        """The tuning of workers that join from now on."""
        self.public_ids = PublicIds(clock, bytes)
        self.row_ids = RowIds(clock, SLOTS - 1)
        self._number = 0
        self._joined: list[Worker] = []
        """All workers, with those that were killed or have left."""
        self.workers: list[Worker] = []

    @property
    def worker(self) -> Worker:
        return self.workers[-1]

    @property
    def dispatcher(self) -> Dispatcher:
        return self.worker.dispatcher

    @property
    def courier(self) -> Courier:
        return self.worker.courier

    @property
    def scout(self) -> Scout:
        return self.worker.scout

    @property
    def lanes(self) -> list[Lane]:
        return self.worker.lanes

    async def start(self) -> None:
        """Start a worker that takes over from all others, which are killed."""
        for worker in tuple(self.workers):
            await self.die(worker)
        await self.join()
        await self.take_free()

    async def join(self) -> Worker:
        """Add a worker that has no cursors yet."""
        lease = WorkerLease(self.clock)
        await self._join(lease)
        # While the clock stands still, a slot that was given again would give the same numbers again.
        worker = Worker(self, lease, len(self._joined) + 1)
        self._joined.append(worker)
        self.workers.append(worker)
        self.store.on_append, self.store.on_heads = [self.dispatcher.on_appended], [self.dispatcher.on_heads]
        return worker

    async def _join(self, lease: WorkerLease) -> None:
        session_id = self.row_ids.next()
        await self.store.write(partial(workers.join, session_id=session_id, role="all", lease_ms=3_600_000))
        lease.id = session_id

    async def take_free(self, worker: Worker | None = None) -> None:
        taker = worker or self.worker
        while await taker.dispatcher.registry.take((await self.store.engine.poll(())).free):
            pass
        await self.quiet()

    async def take_some(self, worker: Worker) -> None:
        await worker.dispatcher.registry.take((await self.store.engine.poll(())).free)

    async def revive(self, worker: Worker) -> None:
        """Let an expired worker find that out, and go on under a new session."""
        worker.dispatcher.registry.drop_all()
        await self._join(worker.lease)
        worker.lease.holds = True
        worker.dispatcher.on_lease_renewed()

    async def move(self, giver: Worker, taker: Worker) -> None:
        """Hand all lanes of one worker over to the other."""
        await giver.dispatcher.hand_over(tuple(giver.dispatcher.lanes.cursors))
        await self.quiet()
        await self.take_free(taker)

    async def steal(self, owner: Worker) -> None:
        """Expire a worker and free its cursors without its knowledge."""
        await self.store.write(partial(workers.expire_worker, session_id=owner.session_id, known_dead=True))
        while await self.store.write(partial(workers.release_cursors, dead=owner.session_id, limit=100)):
            pass
        await self.store.write(partial(workers.delete, session_id=owner.session_id))

    async def die(self, worker: Worker) -> None:
        """Kill a process, and expire it."""
        worker.die()
        self.workers.remove(worker)
        self.store.on_append = [worker.dispatcher.on_appended for worker in self.workers[-1:]]
        await self.steal(worker)

    async def close(self) -> None:
        """Kill all workers, and return when none of their tasks runs any more.

        A task that outlived its test would end with the event loop, or in another test.
        """
        for worker in self._joined:
            worker.die()
        tasks = [task for worker in self._joined for task in worker.dispatcher.tasks.running]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drop_idle(self) -> None:
        """Let enough time pass for all workers to drop the lanes of idle cursors."""
        for worker in self.workers:
            for _ in range(2):
                await worker.dispatcher.registry.drop_idle()

    async def leave(self, worker: Worker) -> None:
        """End a process that has drained."""
        self.workers.remove(worker)
        await self.steal(worker)
        await self.check_inherited()

    async def check_inherited(self) -> None:
        for worker in self.workers:
            worker.dispatcher.check_inherited()
        await self.quiet()

    async def poll(self) -> None:
        """Tell all workers how far the logs go, and to look for free replay slots."""
        for worker in self.workers:
            await self.poll_for(worker)
        await self.quiet()

    async def poll_for(self, worker: Worker) -> None:
        polled = await self.store.engine.poll(worker.dispatcher.lanes.queues)
        worker.dispatcher.on_heads(polled.heads.items())
        worker.dispatcher.replay_slots.check()

    @property
    def commits(self) -> set[asyncio.Task[None]]:
        """The tasks that are committing."""
        store = self.store
        groups = (*store._appends, *store._settles, *store._works, *store._urgent_works)
        return {each.running for each in groups if each.running is not None}

    async def quiet(self, *, flushes: bool = True) -> None:
        """Wait until nothing runs that continues without the test. `flushes`: make delayed flushes at once."""
        while True:
            tasks = self.commits.union(*(worker.dispatcher.tasks.running for worker in self.workers))
            if tasks:
                await asyncio.wait(tasks)
            elif self._has_turns_to_come or self.store.is_busy:
                await asyncio.sleep(0)
            elif flushes and any(worker.dispatcher.delayed_flushes._flushes for worker in self.workers):
                for worker in self.workers:
                    worker.dispatcher.delayed_flushes.wake()
            else:
                return

    @property
    def _has_turns_to_come(self) -> bool:
        dispatchers = [worker.dispatcher for worker in self.workers]
        limiters = [limiter for each in dispatchers for limiter in (each.limiter, each.prober._limiter)]
        return any(limiter.turns.is_on for limiter in limiters)

    async def advance(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)
        for worker in self.workers:
            worker.dispatcher.timers.wake_due()
        await self.quiet()

    async def end(self, sent: Sent | Sequence[Sent], outcome: Outcome) -> None:
        for each in [sent] if isinstance(sent, Sent) else sent:
            each.end(outcome)
        await self.quiet()

    async def end_all(self, outcome: Outcome) -> None:
        """End the requests in flight, and those that follow from it, until there are none."""
        while self.courier.in_flight:
            await self.end(self.courier.in_flight[::], outcome)

    async def acknowledge_in_turn(self, *ids: str) -> None:
        """Assert that each of these messages, in turn, is the only one in flight, and acknowledge it."""
        for each in ids:
            assert self.courier.ids() == [each]
            await self.end(self.courier.in_flight[0], well())

    async def miss_too_old(self) -> None:
        await self.dispatcher.miss_too_old()
        await self.quiet()

    async def probe(self, status: int = 200, error: FailureKind = "", *, times: int = 1) -> None:
        """Let time pass until a probe is in flight, and end all that are; repeat it so many times."""
        for _ in range(times):
            while not any(worker.scout.in_flight for worker in self.workers):
                await self.advance(1_000)
            await self.answer_probes(status, error)

    async def answer_probes(self, status: int = 200, error: FailureKind = "") -> None:
        """End the probes in flight."""
        for worker in self.workers:
            for asked in tuple(worker.scout.in_flight):
                asked.end(status, error)
        await self.quiet()

    async def liveness(self, listener: Listener) -> Liveness:
        """Return the liveness that a client sees."""
        stored = await self.stored(listener)
        facts = await self.store.read(lambda tx: listeners.read_facts(tx, stored.organization, [stored]))
        return facts[stored.id].liveness

    async def organization(self) -> Organization:
        self._number += 1
        made = an_organization(self._number)
        await self.store.write(lambda tx: organizations.insert(tx, made))
        return made

    async def queue(self, organization: Organization, *, ordered: bool = False, on_missed: OnMissed = "pass") -> Queue:
        self._number += 1
        made = Queue(
            organization=organization.id,
            id=row_id(self._number),
            public_id=self.public_ids.next(),
            alias=f"queue-{self._number}",
            retention_seconds=None,
            max_message_bytes=None,
            config_version=1,
            created_at=self.clock.now(),
            updated_at=self.clock.now(),
            ordered=ordered,
            on_missed=on_missed,
        )
        await self.store.write(lambda tx: queues.insert(tx, made))
        return made

    async def listener(
        self, queue: Queue, options: DeliveryOptions | None = None, *, liveness_url: str | None = None
    ) -> Listener:
        """Create a listener as the API does, by default with a liveness URL of its own, and let the workers follow."""
        self._number += 1
        secrets = msgspec.json.encode([{"text": SECRET}])
        made = msgspec.structs.replace(
            a_listener(queue, self._number),
            secrets=secrets,
            options=options or DeliveryOptions(),
            liveness_url=f"https://example.com/live/{self._number}" if liveness_url is None else liveness_url,
        )

        async def work(tx: Transaction) -> None:
            head = await queues.head(tx, queue.organization, queue.id)
            assert head is not None
            await listeners.insert(tx, made, head.head)

        await self.store.write(work)
        await self.follow("listener", made.organization, made.id)
        return made

    async def running(
        self, options: DeliveryOptions | None = None, *, ordered: bool = False, on_missed: OnMissed = "pass"
    ) -> tuple[Queue, Listener]:
        """Start a worker, and create a queue with one listener."""
        queue = await self.queue(await self.organization(), ordered=ordered, on_missed=on_missed)
        await self.start()
        return queue, await self.listener(queue, options)

    async def configure(self, listener: Listener, **changes: object) -> Listener:
        """Change a listener, as the API does."""
        stored = await self.stored(listener)
        changed = msgspec.structs.replace(stored, config_version=stored.config_version + 1, **changes)
        assert await self.store.write(lambda tx: listeners.update(tx, changed))
        await self.follow("listener", listener.organization, listener.id)
        return changed

    async def delete_listener(self, listener: Listener) -> None:
        await self.store.write(
            lambda tx: listeners.mark_deleted(tx, listener.organization, listener.id, self.clock.now())
        )
        await self.follow("listener", listener.organization, listener.id)

    async def follow(self, kind: str, organization: int, ref: int) -> None:
        for worker in self.workers:
            worker.dispatcher.on_change(kind, organization, ref)
        await self.quiet()
        for worker in self.workers:
            if worker.looks:
                worker.looks = False
                await self.take_free(worker)

    async def publish(self, queue: Queue, count: int = 1, *, body: bytes = b'"hello"') -> list[str]:
        """Store messages at once, and return their ids when their first requests went out."""
        appended = await self.append(queue, count, body=body)
        await self.quiet()
        return [entry.id for entry in appended.entries]

    async def publish_keyed(self, queue: Queue, *keys: str, body: bytes = b'"hello"') -> list[str]:
        """Store a message of each key together, and return their ids when their first requests went out."""
        drafts = [NewMessage(body, JSON_VALUE, options=MessageOptions(key=key)) for key in keys]
        return await self._publish(queue, drafts)

    async def publish_with(self, queue: Queue, options: MessageOptions, expires_at: int | None = None) -> str:
        """Store a message with options, and return its id when its first requests went out."""
        [message] = await self._publish(
            queue, [NewMessage(b'"hello"', JSON_VALUE, expires_at=expires_at, options=options)]
        )
        return message

    async def _publish(self, queue: Queue, drafts: list[NewMessage]) -> list[str]:
        entries = tuple(entry_for(self.public_ids.next(), draft, ordered=queue.ordered) for draft in drafts)
        await self.store.append(Append(queue.organization, queue.id, queue.config_version, self.clock.now(), entries))
        await self.quiet()
        return [entry.id for entry in entries]

    async def append(self, queue: Queue, count: int = 1, *, body: bytes = b'"hello"') -> Appended:
        entries = tuple(NewEntry(self.public_ids.next(), JSON_VALUE, body) for _ in range(count))
        return await self.store.append(
            Append(queue.organization, queue.id, queue.config_version, self.clock.now(), entries)
        )

    async def delete_message(self, queue: Queue, public_id: str) -> None:
        async def work(tx: Transaction) -> None:
            message = await read_message(tx, queue, public_id)
            assert message is not None
            await messages.delete(tx, message)

        await self.store.write(work)
        await self.follow("message", queue.organization, queue.id)

    async def stored(self, listener: Listener) -> Listener:
        found = await self.store.read(lambda tx: listeners.by_id(tx, listener.organization, listener.id))
        assert found is not None
        return found

    async def counts(self, listener: Listener) -> CursorCounts:
        return await counts_of(self.store, listener.organization, listener.id)

    async def assert_counts(self, listener: Listener, **expected: int) -> None:
        """Assert that these counts of a listener are as expected."""
        counts = await self.counts(listener)
        assert {name: getattr(counts, name) for name in expected} == expected

    async def missed(self, listener: Listener) -> list[str]:
        async def read(tx: Transaction) -> list[str]:
            of = await find_recipient(tx, listener.organization, listener.public_id)
            assert of is not None
            return [each.id for each in (await missed.page_of_listener(tx, of, Selection(per_page=10_000))).items]

        return await self.store.read(read)

    async def rows(self, sql: str, *values: int) -> list[Row]:
        return await self.store.read(lambda tx: tx.rows(sql, *values))

    async def delivery_rows(self, listener: Listener) -> list[tuple[int, str, int]]:
        """Return seq, state and attempts of each delivery row."""
        return await self.rows(
            "SELECT seq, state, attempts FROM delivery WHERE organization = $1 AND listener = $2 ORDER BY seq",
            listener.organization,
            listener.id,
        )


class Reports:
    """The errors that the engine reported."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.errors: list[BaseException] = []

    def __call__(self, place: str, error: BaseException) -> None:
        self.places.append(place)
        self.errors.append(error)


@contextmanager
def opened(
    runner: asyncio.Runner, folder: Path, reports: Reports, engine_class: type[SqliteEngine] = SqliteEngine
) -> Iterator[Store]:
    engine = engine_class(migrated_file(folder / "discue.db"), report=reports)
    runner.run(engine.open())
    try:
        yield Store(engine, max_waiting_bytes=1 << 24)
    finally:
        runner.run(engine.close())
