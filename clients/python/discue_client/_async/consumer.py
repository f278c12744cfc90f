"""Consuming the messages of a listener in pull mode."""

from __future__ import annotations

import base64
import logging
import math
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, overload

from discue_client import models
from discue_client._async.waiting import Condition, Lock, finish, soon, start, wait_until
from discue_client.configuration import RetryPolicy, is_retried
from discue_client.errors import APIError, DiscueError, Forbidden
from discue_client.responses import Reject, Retry
from discue_client.webhook_data import data_of
from discue_client.wire import path_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from discue_client._async.requester import AsyncRequester
    from discue_client._async.waiting import Worker

T = TypeVar("T")

_log = logging.getLogger("discue_client")

_LOST = frozenset({"expired", "settled"})
"""States of receipts that mean that the message is not this consumer's any more."""
_DEFAULT_LEASE = 30
_LONGEST_DELAY = 86_400
_MOST_RECEIPTS = 1_000
_MOST_PULLED = 100
_TOGETHER_SECONDS = 0.005
"""How long a request waits for others: handlers often end together, and one request then serves all."""
_POLL_SECONDS = 20
"""How long a request may wait for messages. It is cut off when the consumer stops."""
_FOREVER = RetryPolicy(deadline=math.inf, attempts=2**31)


class AsyncDelivery:
    """A message that is leased to this consumer. Enter it to process it.

    A normal exit acknowledges the message, and an exception rejects it: it is delivered again as the listener's retry
    policy says. `Retry(after=…)` gives it back for so many seconds without counting an attempt; `Retry()` and
    `Reject()` reject it and are not raised further.
    """

    def __init__(self, consumer: AsyncConsumer, message: models.PulledMessage) -> None:
        self._consumer = consumer
        self.message = message
        self.id = message.id
        self.type = message.type
        self.sequence = message.sequence
        self.key = message.key
        self.attempt = message.attempt
        """How often the message was handed out, this time included."""
        self.leased_at = monotonic()
        self.is_started = False
        self.is_lost = False
        """Whether the lease was lost. Another consumer may have got the message."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, key={self.key!r}, attempt={self.attempt})"

    @property
    def data(self) -> Any:
        """The data: the value of its JSON if its content type says that it is JSON, else text, or bytes."""
        return self.data_as(Any)

    @property
    def body(self) -> bytes:
        """The data as a push listener would get it."""
        message = self.message
        return (message.data or "").encode() if message.data_base64 is None else base64.b64decode(message.data_base64)

    @overload
    def data_as(self, data_type: type[T]) -> T: ...

    @overload
    def data_as(self, data_type: Any) -> Any: ...

    def data_as(self, data_type: Any) -> Any:
        """Decode the data as a Pydantic model, a dataclass, or any type that msgspec knows. Raises DataInvalid."""
        return data_of(self.body, self.message.content_type, data_type)

    async def __aenter__(self) -> Self:
        self.is_started = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Retry) and error.after is not None:
            await self._consumer.end(self, "release", min(math.ceil(error.after), _LONGEST_DELAY))
        elif error is None:
            await self._consumer.end(self, "acknowledge")
        else:
            # Cancellation is no fault of the message.
            await self._consumer.end(self, "reject" if isinstance(error, Exception) else "release")
        return isinstance(error, (Retry, Reject))


class AsyncConsumer:
    """Pulls messages, extends their leases while they are processed, and settles them.

    `run` calls a handler for each message. Iterating yields deliveries, each of which must be entered; up to
    `concurrency` of them may be in progress. Both end after `stop`, when what has begun is finished, and raise an
    error that no retry can change. Connection errors are logged and retried for ever.
    """

    def __init__(self, requester: AsyncRequester, queue: str, listener: str, *, concurrency: int = 10) -> None:
        if not 1 <= concurrency <= _MOST_RECEIPTS:
            raise ValueError(f"concurrency must be 1 to {_MOST_RECEIPTS:,}")
        self._requester = requester
        self._path = path_of("queues", queue, "listeners", listener)
        self._concurrency = concurrency
        self._lease = _DEFAULT_LEASE
        self._lock = Lock()
        self._arrived, self._has_room, self._ended = (Condition(self._lock) for _ in range(3))
        self._ready: deque[AsyncDelivery] = deque()
        self._held: dict[str, AsyncDelivery] = {}
        """Leased messages that are not settled, by receipt."""
        self._outbox: list[tuple[str, int, str]] = []
        """Settlements to send: action, delay and receipt."""
        self._is_stopping = False
        self._is_done = False
        self._failure: DiscueError | None = None
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        if self._workers or self._is_stopping:
            raise RuntimeError("A consumer can be entered once.")
        works = (("pull", self._pull), ("extend", self._extend), ("settle", self._settle))
        self._workers = [start(work, f"discue consumer: {name}") for name, work in works]
        return self

    async def __aexit__(self, *error: object) -> None:
        """Give back what has not begun, wait for what has, and send the last settlements."""
        pull, *others = self._workers
        self._is_stopping = True
        pull.cancel()
        await self._wake()
        await finish(pull)
        for delivery in [each for each in self._held.values() if not each.is_started]:
            await self.end(delivery, "release")
        async with self._lock:
            self._ready.clear()
            await wait_until(self._has_room, lambda: not self._held)
            self._is_done = True
        await self._wake()
        for worker in others:
            await finish(worker)

    def stop(self) -> None:
        """Take no more messages. May be called from a signal handler: on an event loop, from its own."""
        self._is_stopping = True
        soon(self._wake)

    async def run(self, handle: Callable[[AsyncDelivery], Awaitable[object]]) -> None:
        """Call `handle` for each message, for up to `concurrency` at a time, until `stop` or a lasting error.

        An exception of the handler is logged, and the message is rejected.
        """

        async def work() -> None:
            while (delivery := await self._next()) is not None:
                await self._handle(delivery, handle)

        async with self:
            handlers = [start(work, f"discue consumer: {number}") for number in range(self._concurrency)]
            try:
                for handler in handlers:
                    await finish(handler)
            except BaseException:
                self._is_stopping = True
                await self._wake()
                for handler in handlers:
                    # All raise the error that ended the consumer. One of them is enough.
                    with suppress(DiscueError):
                        await finish(handler, interrupt=True)
                raise
        if self._failure is not None:
            raise self._failure

    async def _handle(self, delivery: AsyncDelivery, handle: Callable[[AsyncDelivery], Awaitable[object]]) -> None:
        try:
            async with delivery:
                await handle(delivery)
        except Exception:
            _log.exception("The handler of message %s failed: the message is rejected.", delivery.id)

    async def __aiter__(self) -> AsyncIterator[AsyncDelivery]:
        if not self._workers:
            async with self:
                async for each in self:
                    yield each
            return
        while (delivery := await self._next()) is not None:
            yield delivery
        if self._failure is not None:
            raise self._failure

    async def end(self, delivery: AsyncDelivery, action: str, delay: int = 0) -> None:
        """Settle a delivery, in the background."""
        receipt = delivery.message.receipt
        async with self._lock:
            if self._held.pop(receipt, None) is not None and not delivery.is_lost:
                self._outbox.append((action, delay, receipt))
            # Only the numbers for which a task waits wake the tasks.
            if len(self._outbox) in (1, self._concurrency):
                self._ended.notify_all()
            if len(self._held) in (0, self._concurrency // 2, self._concurrency - 1):
                self._has_room.notify_all()

    async def _wake(self) -> None:
        async with self._lock:
            for condition in (self._arrived, self._has_room, self._ended):
                condition.notify_all()

    async def _until(self, condition: Condition, is_true: Callable[[], object], seconds: float | None = None) -> None:
        """Wait until `is_true`, the consumer stops, or the time has passed. The lock is held."""
        await wait_until(condition, lambda: self._is_stopping or is_true(), seconds)

    async def _next(self) -> AsyncDelivery | None:
        async with self._lock:
            await self._until(self._arrived, lambda: self._ready)
            return None if self._is_stopping else self._ready.popleft()

    async def _pull(self) -> None:
        attempt, is_prepared, once = 0, False, self._requester.once()
        while (room := await self._room()) > 0:
            try:
                if not is_prepared:
                    is_prepared = await self._prepare(once)
                query = {"max": min(room, _MOST_PULLED), "wait": _POLL_SECONDS}
                path = f"{self._path}/messages"
                found = await once.result(
                    models.PulledMessagesResponse, "GET", path, query=query, extra_time=_POLL_SECONDS
                )
            except DiscueError as error:
                attempt += 1
                if not await self._survives(error, attempt):
                    return
                continue
            if attempt:
                _log.info("Messages can be fetched again.")
            attempt = 0
            async with self._lock:
                for message in found.messages:
                    delivery = AsyncDelivery(self, message)
                    self._held[message.receipt] = delivery
                    self._ready.append(delivery)
                self._arrived.notify_all()
                self._ended.notify_all()

    async def _room(self) -> int:
        """Wait until another message may be fetched. Returns 0 when the consumer stops."""
        async with self._lock:
            await self._until(self._has_room, lambda: len(self._held) < self._concurrency)
            await self._until(self._has_room, lambda: len(self._held) <= self._concurrency / 2, _TOGETHER_SECONDS)
            return 0 if self._is_stopping else self._concurrency - len(self._held)

    async def _prepare(self, requester: AsyncRequester) -> bool:
        """Read how long leases last. By the clocks, `leased_until` would say it only if they agreed."""
        try:
            found = await requester.result(models.ListenerResponse, "GET", self._path)
        except Forbidden:
            # The key may pull messages, and not read the listener.
            return True
        self._lease = found.listener.lease_seconds or _DEFAULT_LEASE
        return True

    async def _survives(self, error: DiscueError, attempt: int) -> bool:
        """Log a failed pull and wait, or end the consumer if it would fail again without a change of the service."""
        refusal = error if isinstance(error, APIError) else None
        retry_after = None if refusal is None else refusal.retry_after
        may_pass = refusal is None or refusal.code == "listener_disabled" or is_retried(refusal.status, refusal.code)
        if retry_after is None and not may_pass:
            self._failure = error
            self._is_stopping = True
            await self._wake()
            return False
        if attempt == 1:
            _log.warning("Messages cannot be fetched; trying again: %s", error)
        pause = _FOREVER.wait(attempt, 0.0, retry_after)
        async with self._lock:
            await self._until(self._has_room, lambda: False, pause)
        return True

    async def _extend(self) -> None:
        while (due := await self._due()) is not None:
            if due and not self._ready and not any(each.is_started for each in self._held.values()):
                _log.warning("Messages that wait to be entered: %d. Process each in `with delivery:`.", len(self._held))
            if due:
                await self._extend_now(due)

    async def _due(self) -> list[str] | None:
        """Wait for a third of a lease, and return the receipts that need another one; None when all is done."""
        async with self._lock:
            # The length of leases is known when the first message is.
            await wait_until(self._ended, lambda: self._held or self._is_done)
            await wait_until(self._ended, lambda: self._is_done, self._lease / 3)
            oldest = monotonic() - self._lease / 6
            due = [key for key, each in self._held.items() if each.leased_at <= oldest and not each.is_lost]
            return None if self._is_done else due

    async def _extend_now(self, receipts: list[str]) -> None:
        asked_at = monotonic()
        try:
            states = await self._send({"extend": receipts, "lease_seconds": self._lease}, self._requester.once())
        except DiscueError as error:
            # The next round is before the leases end.
            _log.warning("Leases could not be extended: %s", error)
            return
        for receipt, state in states.items():
            delivery = self._held.get(receipt)
            if delivery is not None and state in _LOST:
                delivery.is_lost = True
                _log.warning("The lease of message %s was lost: it may be processed twice.", delivery.id)
            elif delivery is not None:
                delivery.leased_at = asked_at

    async def _settle(self) -> None:
        while True:
            async with self._lock:
                await wait_until(self._ended, lambda: self._outbox or self._is_done)
                await self._until(self._ended, lambda: len(self._outbox) >= self._concurrency, _TOGETHER_SECONDS)
                batch, self._outbox = self._outbox[:_MOST_RECEIPTS], self._outbox[_MOST_RECEIPTS:]
            if not batch:
                return
            # A request has one delay for all that it releases.
            by_delay: dict[int, dict[str, list[str]]] = {}
            for action, delay, receipt in batch:
                by_delay.setdefault(delay, {}).setdefault(action, []).append(receipt)
            for delay, receipts in by_delay.items():
                await self._settle_now(receipts, delay)

    async def _settle_now(self, receipts: dict[str, list[str]], delay: int) -> None:
        count = sum(map(len, receipts.values()))
        try:
            states = await self._send({**receipts, "delay": delay} if delay else receipts, self._requester)
        except DiscueError as error:
            _log.error("Messages that could not be settled, and will be delivered again: %d. %s", count, error)
            return
        late = sum(state == "expired" for state in states.values())
        if late:
            _log.warning("Messages that were settled after their lease, and may be processed twice: %d.", late)

    async def _send(self, body: Mapping[str, object], requester: AsyncRequester) -> dict[str, str]:
        """Send settlements and return the state of each receipt. Sending them twice has no further effect."""
        found = await requester.result(models.ReceiptsResponse, "POST", f"{self._path}/acknowledgements", body=body)
        return {each.receipt: each.state for each in found.receipts}
