"""Who waits for messages of one listener, in this worker: requests take turns, and several share a round."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

from discue.control.pulls import MOST_AT_ONCE, Decision, DecisionResult, LeasedMessage, PullClient, PullTarget
from discue.dispatch.pull.receive import Brought, Means, go_round
from discue.domain.errors import DiscueError, Overloaded

T = TypeVar("T")

WAITING_POLLS: Final = 1_000
"""At one desk."""
_ROUNDS_WITHOUT_WAITING: Final = 8
"""However much is passed on the way, a request that does not wait is answered after so many."""
_NO_MESSAGES: Final[list[LeasedMessage]] = []


class Poll:
    """A request for messages: at most so many, until an instant."""

    __slots__ = ("answer", "client", "deadline", "most", "rounds")

    def __init__(
        self, client: PullClient, most: int, deadline: int, answer: "asyncio.Future[list[LeasedMessage]]"
    ) -> None:
        self.client = client
        self.most = most
        self.deadline = deadline
        self.answer = answer
        self.rounds = 0


class Statement:
    """What a consumer says of some messages. Nobody waits for what becomes of one without an `answer`."""

    __slots__ = ("answer", "decisions")

    def __init__(self, decisions: Sequence[Decision], answer: "asyncio.Future[list[DecisionResult]] | None") -> None:
        self.decisions = decisions
        self.answer = answer


class Around(Protocol):
    """All desks of the worker."""

    means: Means

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    def wake_at(self, desk: "Desk", due_at: int) -> None: ...

    def brought(self, desk: "Desk", brought: Brought) -> None:
        """A round has ended: others may wait for what it makes due."""
        ...

    def give_back(self, place: PullTarget, released: list[Decision]) -> None:
        """Nobody is there for what was handed out."""
        ...

    def is_left(self, desk: "Desk") -> None:
        """Nobody waits there any more."""
        ...


class Desk:
    """One listener's. An idle one has no task, no timer of its own, and asks the store for nothing.

    `wakes_at` and `closed` are those of `alarms.Sleeper`.
    """

    def __init__(self, place: PullTarget, around: Around) -> None:
        self.place = place
        self.wakes_at = 0
        self.is_closed = False
        self._around = around
        self._polls: deque[Poll] = deque()
        self._statements: deque[Statement] = deque()
        self._task: asyncio.Task[None] | None = None
        self._must_look = False
        self._look_at = 0
        self._seen = 0

    async def poll(self, client: PullClient, most: int, deadline: int) -> list[LeasedMessage]:
        if len(self._polls) >= WAITING_POLLS:
            raise Overloaded(f"{WAITING_POLLS} requests wait for messages of this listener already.")
        poll = Poll(client, most, deadline, asyncio.get_running_loop().create_future())
        self._polls.append(poll)
        self.ring()
        try:
            return await poll.answer
        except asyncio.CancelledError:
            if poll.answer.done() and not poll.answer.cancelled() and poll.answer.exception() is None:
                self._give_back(poll.answer.result())
            self._rest()
            raise

    async def state(self, decisions: Sequence[Decision]) -> list[DecisionResult]:
        answer: asyncio.Future[list[DecisionResult]] = asyncio.get_running_loop().create_future()
        self._statements.append(Statement(decisions, answer))
        self.ring()
        return await answer

    def note(self, decisions: Sequence[Decision]) -> None:
        """The same, of which nobody waits to hear what became."""
        self._statements.append(Statement(decisions, None))
        self.ring()

    def ring(self) -> None:
        """There may be something to hand out."""
        self._must_look = True
        if self._task is None:
            self._task = self._around.spawn(self._work())

    def learn(self, head: int) -> None:
        """The log goes that far."""
        if head > self._seen:
            self.ring()

    def wake(self) -> None:
        """A time has come: for somebody to leave, or to look again."""
        now = self._now
        self._send_off(now)
        if 0 < self._look_at <= now and self._polls:
            self.ring()
        else:
            self._rest()

    def see_off(self) -> None:
        """Whoever may not stay waits no longer."""
        for poll in self._polls:
            if not poll.client.is_active:
                _resolve(poll.answer, _NO_MESSAGES)
        self._rest()

    @property
    def _now(self) -> int:
        return self._around.means.clock.now()

    async def _work(self) -> None:
        try:
            while self._must_look or self._statements:
                self._must_look = False
                await self._go_round()
        finally:
            self._task = None
        self._rest()

    async def _go_round(self) -> None:
        statements, polls = self._taken_statements(), self._waiting_polls()
        decisions = [decision for statement in statements for decision in statement.decisions]
        most = min(sum(poll.most for poll in polls), MOST_AT_ONCE)
        if not statements and not most:
            return
        try:
            brought = await go_round(self._around.means, self.place, decisions, most)
        except Exception as error:
            self._fail(statements, error)
            if isinstance(error, DiscueError):
                return
            raise
        self._tell(statements, brought.answered)
        self._hand(brought)
        self._around.brought(self, brought)

    def _taken_statements(self) -> list[Statement]:
        taken = list(self._statements)
        self._statements.clear()
        return taken

    def _waiting_polls(self) -> list[Poll]:
        """Without those of clients that are gone."""
        self._polls = deque(poll for poll in self._polls if not poll.answer.done())
        return list(self._polls)

    def _tell(self, statements: Sequence[Statement], answered: list[DecisionResult]) -> None:
        start = 0
        for statement in statements:
            end = start + len(statement.decisions)
            if statement.answer is not None:
                _resolve(statement.answer, answered[start:end])
            start = end

    def _hand(self, brought: Brought) -> None:
        now, left = self._now, deque(brought.handed)
        waiting = deque[Poll]()
        for poll in self._waiting_polls():
            poll.rounds += 1
            mine = [left.popleft() for _ in range(min(poll.most, len(left)))]
            if mine:
                _resolve(poll.answer, mine)
            elif brought.refusal is not None:
                _refuse(poll.answer, brought.refusal)
            elif self._is_over(poll, now, more=brought.more):
                _resolve(poll.answer, _NO_MESSAGES)
            else:
                waiting.append(poll)
        self._polls = waiting
        if left:
            self._give_back(left)
        self._look_at, self._seen = brought.next_at, max(self._seen, brought.head)
        if brought.more or (brought.makes_due and waiting):
            self._must_look = bool(waiting)

    def _give_back(self, handed: Iterable[LeasedMessage]) -> None:
        """Whoever wanted them is gone: they are anybody's again, and as if they had not been handed out."""
        released = [Decision(each.receipt, "release") for each in handed]
        if released:
            self._around.give_back(self.place, released)

    def _is_over(self, poll: Poll, now: int, *, more: bool) -> bool:
        return poll.deadline <= now and (not more or poll.rounds >= _ROUNDS_WITHOUT_WAITING)

    def _fail(self, statements: Sequence[Statement], error: Exception) -> None:
        for statement in statements:
            if statement.answer is not None:
                _refuse(statement.answer, error)
        for poll in self._polls:
            _refuse(poll.answer, error)
        self._polls.clear()

    def _send_off(self, now: int) -> None:
        """Those whose time is over get nothing."""
        waiting = deque[Poll]()
        for poll in self._polls:
            if poll.deadline <= now:
                _resolve(poll.answer, _NO_MESSAGES)
            elif not poll.answer.done():
                waiting.append(poll)
        self._polls = waiting

    def _rest(self) -> None:
        """Until somebody rings, or a time comes."""
        if self._task is not None:
            return
        polls = self._waiting_polls()
        if not polls:
            if not self._statements:
                self.is_closed = True
                self._around.is_left(self)
            return
        times = [poll.deadline for poll in polls]
        if self._look_at:
            times.append(self._look_at)
        self._around.wake_at(self, min(times))


def _resolve(answer: "asyncio.Future[T]", value: T) -> None:
    if not answer.done():
        answer.set_result(value)


def _refuse(
    answer: "asyncio.Future[list[LeasedMessage]] | asyncio.Future[list[DecisionResult]]", error: Exception
) -> None:
    if not answer.done():
        answer.set_exception(error)
