"""Writes the history down as it happens, and knows what is still owed to whom."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.history import (
    Deletion,
    DeliveryOptions,
    Fault,
    History,
    Published,
    Rate,
    Receipt,
    Registered,
    Replayed,
    Resource,
    ResourceRequest,
)
from tests.faults.promises.deliveries import is_owed
from tests.faults.receiver import Delivered

_LATELY = 60


class Recorder:
    """`room` is set while few deliveries are owed, `settled` while none are."""

    def __init__(self, history: History, most_owed: int) -> None:
        self.history = history
        history.epoch = time.time() - time.monotonic()
        self.room = asyncio.Event()
        self.settled = asyncio.Event()
        self._most_owed = most_owed
        self._tick = 0
        self._owed_count = 0
        self._owed: defaultdict[str, set[str]] = defaultdict(set)
        self._acknowledged: defaultdict[str, set[str]] = defaultdict(set)
        self._staying: defaultdict[str, dict[str, Registered]] = defaultdict(dict)
        self._bodies: dict[str, str] = {}
        self._lately: defaultdict[str, deque[Published]] = defaultdict(lambda: deque(maxlen=_LATELY))
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self._look()

    async def until_more(self, events: int) -> None:
        """Wait until so many more things have happened."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((self._tick + events, reached))
        await reached

    def sending(
        self, queue: str, bodies: Sequence[str], options: Sequence[DeliveryOptions] = (), routes: Sequence[str] = ()
    ) -> Published:
        published = Published(
            queue, tuple(bodies), self._next(), options=tuple(options), routes=tuple(routes), sent_at=time.monotonic()
        )
        self._bodies.update(zip(bodies, bodies, strict=True))
        self.history.publishes.append(published)
        return published

    def stored(self, published: Published, ids: Sequence[str]) -> None:
        published.answered, published.answered_at, published.ids = self._next(), time.monotonic(), tuple(ids)
        self._lately[published.queue].append(published)
        for name, listener in self._staying[published.queue].items():
            if is_owed(published, listener):
                self._owe(name, published.lasting_for(listener) - self._acknowledged[name])
        self._look()

    def creating(
        self, name: str, queue: str, rate: Rate | None = None, sort: str = "", attempts: int = 0
    ) -> Registered:
        listener = Registered(queue, self._next(), rate=rate, sort=sort, attempts=attempts)
        self.history.listeners[name] = self._staying[queue][name] = listener
        return listener

    def created(self, listener: Registered, public_id: str, secret: str) -> None:
        listener.id, listener.secret, listener.answered = public_id, secret, self._next()

    def listeners_of(self, queue: str) -> list[str]:
        """Return the listeners known to exist, oldest first."""
        return [name for name, listener in self._staying[queue].items() if listener.answered]

    def stored_lately(self, queue: str) -> Sequence[Published]:
        """Return the most recent confirmed publishes."""
        return self._lately[queue]

    def replaying(self, name: str, first: str, last: str) -> Replayed:
        replay = Replayed(name, first, last, self._next())
        self.history.replays.append(replay)
        return replay

    def replayed(self, replay: Replayed, public_id: str) -> None:
        replay.id, replay.answered = public_id, self._next()

    def cancelling(self, replay: Replayed) -> None:
        replay.delete_sent = self._next()

    def cancelled(self, replay: Replayed) -> None:
        replay.deleted_at = time.monotonic()

    def deleting_message(self, published: Published, message: str) -> bool:
        """Note that a message is to be deleted. Returns whether that was asked for before."""
        was_asked = message in published.deletions
        if not was_asked:
            published.deletions[message] = Deletion(self._next())
        for name in self._staying[published.queue]:
            self._forgive(name, message)
        self._look()
        return was_asked

    def deleted_message(self, published: Published, message: str) -> None:
        deletion = published.deletions[message]
        deletion.answered, deletion.answered_at = self._next(), time.monotonic()

    def deleting(self, name: str) -> None:
        """The first time counts, if it has to be asked for again."""
        listener = self.history.listeners[name]
        listener.delete_sent = listener.delete_sent or self._next()
        self._staying[listener.queue].pop(name, None)
        self._owed_count -= len(self._owed.pop(name, ()))
        self._look()

    def deleted(self, name: str) -> None:
        self.history.listeners[name].deleted_at = time.monotonic()

    def made(self, resource: str, organization: str, sent: int) -> None:
        """A resource has an address now that its creation was answered."""
        self.history.resources[resource] = Resource(organization, sent, self._next())

    def removing(self, resource: str) -> None:
        known = self.history.resources[resource]
        known.delete_sent = known.delete_sent or self._next()

    def removed(self, resource: str) -> None:
        known = self.history.resources[resource]
        known.deleted, known.deleted_at = self._next(), time.monotonic()

    def requesting(self, resource: str, worker: int, *, stranger: bool = False) -> ResourceRequest:
        request = ResourceRequest(resource, worker, self._next(), time.monotonic(), stranger)
        self.history.resource_requests.append(request)
        return request

    def requested(self, request: ResourceRequest, status: int) -> None:
        request.answered, request.status = self._next(), status

    @contextmanager
    def fault(self, kind: str, workers: Sequence[int] = (0,)) -> Iterator[Fault]:
        """Record the block as a fault that touches these workers."""
        fault = Fault(kind, tuple(workers), self._next(), time.monotonic())
        self.history.faults.append(fault)
        try:
            yield fault
        finally:
            fault.ended, fault.ended_at = self._next(), time.monotonic()

    def stalled(self, workers: Sequence[int], seconds: float) -> None:
        """The machine stood still for so long, until now."""
        now = time.monotonic()
        self.history.faults.append(
            Fault("machine stalled", tuple(workers), self._next(), now - seconds, self._next(), now)
        )

    def received(self, delivered: Delivered, status: int, worker: int = 0) -> None:
        headers = delivered.headers
        body = delivered.body.decode()
        receipt = Receipt(
            name=delivered.path,
            message=delivered.message,
            # One text for all receipts of a message.
            body=self._bodies.get(body, body),
            timestamp=int(headers["webhook-timestamp"]),
            signature=headers["webhook-signature"],
            came_at=delivered.came_at,
            tick=self._next(),
            at=time.monotonic(),
            status=status,
            worker=worker,
            replay=headers.get("discue-replay", ""),
            number=int(headers["discue-attempt"]),
        )
        self.history.receipts.append(receipt)
        if status == 200 and not receipt.replay:
            self._pay(receipt.name, receipt.message)
        self._look()

    def tick(self) -> int:
        """A place in the order, for what is about to be sent."""
        return self._next()

    def _owe(self, name: str, messages: set[str]) -> None:
        before = len(self._owed[name])
        self._owed[name] |= messages
        self._owed_count += len(self._owed[name]) - before

    def _pay(self, name: str, message: str) -> None:
        self._acknowledged[name].add(message)
        self._forgive(name, message)

    def _forgive(self, name: str, message: str) -> None:
        if message in self._owed[name]:
            self._owed[name].remove(message)
            self._owed_count -= 1

    def _next(self) -> int:
        self._tick += 1
        return self._tick

    def _look(self) -> None:
        for event, holds in ((self.room, self._owed_count < self._most_owed), (self.settled, not self._owed_count)):
            if holds:
                event.set()
            else:
                event.clear()
        for entry in [entry for entry in self._awaited if entry[0] <= self._tick]:
            self._awaited.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)
