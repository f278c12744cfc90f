"""Long polls of one listener in this worker: they take turns, and share rounds."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from discue.control.pulls import MOST_AT_ONCE, Decision, DecisionResult, LeasedMessage, PullClient, PullTarget
from discue.dispatch.pull.receive import RoundResult, run_round, size_of
from discue.domain.errors import DiscueError, Overloaded

if TYPE_CHECKING:
    from discue.dispatch.pull.broker import PullBroker

T = TypeVar("T")

MAX_POLLS: Final = 1_000
"""How many long polls of one listener may wait in this worker."""
_MAX_ROUNDS: Final = 8
"""How many rounds a poll takes part in after its deadline, while there may be more messages."""
_GRACE_MS: Final = 500
"""How long after its deadline a poll may end, if a round runs or there may be more messages: on a busy worker, a round
waits for its turn."""
_NO_MESSAGES: Final[list[LeasedMessage]] = []


@dataclass(slots=True)
class LongPoll:
    """A request for up to `most` messages. It waits until `deadline`, in milliseconds since the epoch.

    It does not end without messages before it has taken part in a round, unless its client has to leave.
    """

    client: PullClient
    most: int
    deadline: int
    response: "asyncio.Future[list[LeasedMessage]]"
    rounds: int = 0


class DecisionBatch(NamedTuple):
    """Decisions of a consumer. Without `response`, no one waits for their results."""

    decisions: Sequence[Decision]
    response: "asyncio.Future[list[DecisionResult]] | None"


class Waiters:
    """The long polls and decisions of one listener. If none is left, it has no task and no timer, and is closed.

    It is a `timers.Sleeper`.
    """

    def __init__(self, target: PullTarget, broker: "PullBroker") -> None:
        self.target = target
        self.wakes_at = 0
        self.is_closed = False
        self._broker = broker
        self._polls: deque[LongPoll] = deque()
        self._batches: deque[DecisionBatch] = deque()
        self._task: asyncio.Task[None] | None = None
        self._must_check = False
        self._check_at = 0
        """When a message is due next, in milliseconds since the epoch; 0 if none is."""
        self._head_seen = 0
        self._needed = 0
        """The memory that the last round has found missing."""

    async def poll(self, client: PullClient, most: int, deadline: int) -> list[LeasedMessage]:
        """Wait for messages. If cancelled, none stays leased. Raises Overloaded."""
        if len(self._polls) >= MAX_POLLS:
            raise Overloaded(f"{MAX_POLLS} requests already wait for messages of this listener. Try again soon.")
        poll = LongPoll(client, most, deadline, asyncio.get_running_loop().create_future())
        self._polls.append(poll)
        self.notify()
        try:
            return await poll.response
        except asyncio.CancelledError:
            if poll.response.done() and not poll.response.cancelled() and poll.response.exception() is None:
                self._release(poll.response.result())
            self._rest()
            raise

    async def decide(self, decisions: Sequence[Decision]) -> list[DecisionResult]:
        """Apply decisions, and return their results when they are stored."""
        response: asyncio.Future[list[DecisionResult]] = asyncio.get_running_loop().create_future()
        self._batches.append(DecisionBatch(decisions, response))
        self.notify()
        return await response

    def decide_soon(self, decisions: Sequence[Decision]) -> None:
        """Apply decisions without waiting for their results."""
        self._batches.append(DecisionBatch(decisions, None))
        self.notify()

    def notify(self) -> None:
        """Run a round soon: there may be messages."""
        self._must_check = True
        if self._task is None:
            self._task = self._broker.tasks.spawn(self._run_rounds())

    def on_head(self, head: int) -> None:
        """Run a round if the log goes further than the last round has seen."""
        if head > self._head_seen:
            self.notify()

    def wake(self) -> None:
        """End the polls whose time is over, and run a round if a message is due."""
        now = self._broker.context.clock.now()
        for poll in self._polls:
            if poll.rounds and self._ends_at(poll) <= now:
                _resolve(poll.response, _NO_MESSAGES)
        if 0 < self._check_at <= now and self._open_polls():
            self.notify()
        self._rest()

    def on_clock_set_back(self, _now: int) -> None:
        """End the polls, whose deadlines may be far ahead: consumers ask again."""
        for poll in self._polls:
            _resolve(poll.response, _NO_MESSAGES)
        self._rest()

    def disconnect_inactive(self) -> None:
        """End the polls of inactive clients without messages."""
        for poll in self._polls:
            if not poll.client.is_active:
                _resolve(poll.response, _NO_MESSAGES)
        self._rest()

    async def _run_rounds(self) -> None:
        try:
            while self._must_check or self._batches:
                self._must_check = False
                self._rest()
                await self._run_round()
        finally:
            self._task = None
        self._rest()

    async def _run_round(self) -> None:
        batches, polls = list(self._batches), self._open_polls()
        self._batches.clear()
        decisions = [decision for batch in batches for decision in batch.decisions]
        most = min(sum(poll.most for poll in polls), MOST_AT_ONCE)
        if not batches and not most:
            return
        try:
            result = await run_round(self._broker.context, self.target, decisions, most, needed=self._needed)
        except Exception as error:
            self._fail(batches, error)
            if isinstance(error, DiscueError):
                return
            raise
        self._needed = result.needed
        results = iter(result.decisions)
        for batch in batches:
            of_batch = list(islice(results, len(batch.decisions)))
            if batch.response is not None:
                _resolve(batch.response, of_batch)
        # Polls that arrived during the round have not taken part: it may have read before their messages were stored.
        for poll in polls:
            poll.rounds += 1
        self._hand_out(result)
        if result.reservation is not None:
            result.reservation.release()
        self._broker.on_round(self, result)

    def _open_polls(self) -> list[LongPoll]:
        """Remove the polls that have ended, and return the others."""
        self._polls = deque(poll for poll in self._polls if not poll.response.done())
        return list(self._polls)

    def _hand_out(self, result: RoundResult) -> None:
        """Divide the messages among the polls in their order. Polls without messages go on, unless they must end."""
        now, left = self._broker.context.clock.now(), deque(result.messages)
        waiting = deque[LongPoll]()
        for poll in self._open_polls():
            messages = [left.popleft() for _ in range(min(poll.most, len(left)))]
            if messages and result.reservation is not None:
                is_all = len(messages) == len(result.messages)
                size = result.reservation.bytes if is_all else size_of(messages)
                poll.client.hold(result.reservation.split(size))
                _resolve(poll.response, messages)
            elif result.refusal is not None:
                _refuse(poll.response, result.refusal)
            elif (
                poll.rounds
                and poll.deadline <= now
                and (not result.has_more or poll.rounds >= _MAX_ROUNDS or poll.deadline + _GRACE_MS <= now)
            ):
                _resolve(poll.response, _NO_MESSAGES)
            else:
                waiting.append(poll)
        self._polls = waiting
        if left:
            self._release(left)
        self._check_at, self._head_seen = result.next_at, max(self._head_seen, result.head)
        if result.has_more or (result.makes_due and waiting):
            self._must_check = bool(waiting)

    def _release(self, messages: Iterable[LeasedMessage]) -> None:
        """Release messages whose consumer is gone: they are due again, as if they had not been leased."""
        releases = [Decision(message.receipt, "release") for message in messages]
        if releases:
            self._broker.release(self.target, releases)

    def _fail(self, batches: Sequence[DecisionBatch], error: Exception) -> None:
        for batch in batches:
            if batch.response is not None:
                _refuse(batch.response, error)
        for poll in self._polls:
            _refuse(poll.response, error)
        self._polls.clear()

    def _rest(self) -> None:
        """Set the next time to wake. If no request is left and no round runs, close."""
        polls = self._open_polls()
        is_running = self._task is not None
        if not polls and not self._batches and not is_running:
            self.is_closed = True
            self._broker.on_closed(self)
            return
        times = [self._ends_at(poll) for poll in polls if poll.rounds]
        if self._check_at and not is_running:
            times.append(self._check_at)
        if times:
            self._broker.timers.wake_at(self, min(times))

    def _ends_at(self, poll: LongPoll) -> int:
        """Return when a poll ends without messages, if it has taken part in a round."""
        # A round that runs may find messages for it.
        return poll.deadline if self._task is None else poll.deadline + _GRACE_MS


def _resolve(response: "asyncio.Future[T]", value: T) -> None:
    if not response.done():
        response.set_result(value)


def _refuse(
    response: "asyncio.Future[list[LeasedMessage]] | asyncio.Future[list[DecisionResult]]", error: Exception
) -> None:
    if not response.done():
        response.set_exception(error)
