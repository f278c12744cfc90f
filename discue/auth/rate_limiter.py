"""How many requests a minute each caller may make, counted over all workers of an installation.

A worker takes slices of a caller's minute from the store and gives them out by itself. While the store does not work,
each worker admits up to the limit by its own count: refusing everybody would help nobody, and reads may still work.
What it admitted so is taken from the minute as soon as the store works again.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Final

from discue.domain.clock import Clock
from discue.domain.errors import TooManyRequests, Unavailable
from discue.domain.rate import (
    UNLIMITED,
    MinuteWindow,
    RateLimitKey,
    RateLimitStatus,
    refill_size,
    refill_threshold,
    reserve_size,
)
from discue.store import rate_limits
from discue.store.rate_limits import BudgetGrant, BudgetRequest
from discue.store.store import Store

__all__ = ["RateLimitKey", "RateLimitStatus", "RateLimiter", "address_caller"]

ENTRIES: Final = 50_000
"""Of so many callers twice is remembered; those unused for longest are forgotten, with what was held for them."""

_TAKEN_TOGETHER: Final = 64
_PATIENCE_SECONDS: Final = 1.0
_DISTRUST_SECONDS: Final = 0.5

_Place = tuple[int, int]


@lru_cache(10_000)
def _number_of(subject: str) -> int:
    return int.from_bytes(blake2b(subject.encode(), digest_size=8).digest()) >> 1


def address_caller(subject: str, limit: int) -> RateLimitKey:
    """Whoever calls without a valid key from an address: `subject` is its text, or that of its network."""
    return RateLimitKey(0, _number_of(subject), limit)


class _Budget:
    """What this worker knows of a caller's minute.

    `held` are requests that were taken and not made, `owed` those made and not taken, `returned` those taken under
    another limit and not made. `left` is what all workers may still take, as far as is known.
    """

    __slots__ = (
        "granted",
        "held",
        "is_asked",
        "is_used_up",
        "left",
        "limit",
        "low",
        "minute",
        "owed",
        "place",
        "returned",
        "waiting",
    )

    def __init__(self, place: _Place, limit: int, minute: int, spare: int) -> None:
        self.place = place
        self.limit = limit
        self.minute = minute
        self.low = refill_threshold(spare)
        self.held = self.owed = self.granted = self.returned = 0
        self.left = limit
        self.is_used_up = self.is_asked = False
        self.waiting: list[asyncio.Future[bool | None]] = []

    @property
    def admitted(self) -> int:
        return self.granted - self.held + self.owed

    @property
    def remaining(self) -> int:
        return max(0, self.held + self.left - self.owed)

    def wish(self, spare: int) -> BudgetRequest:
        self.low = refill_threshold(spare)
        asked = self.owed + sum(not turn.done() for turn in self.waiting)
        wanted = refill_size(min(asked, self.limit), self.held, spare)
        return BudgetRequest(*self.place, self.minute, wanted, self.limit, self.returned)

    def take(self, wish: BudgetRequest, taken: BudgetGrant) -> None:
        """Have what the store granted, and give it to those who wait."""
        self.left = taken.left
        self.returned -= wish.returned
        self.is_used_up = taken.granted < wish.wanted or not taken.left
        self.granted += taken.granted
        paid = min(self.owed, taken.granted)
        self.owed -= paid
        self.held += taken.granted - paid
        turns, self.waiting = self.waiting, []
        for turn in turns:
            self._answer(turn)

    def give_up(self) -> None:
        """Let those who wait go: nothing is known."""
        turns, self.waiting = self.waiting, []
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    def _answer(self, turn: asyncio.Future[bool | None]) -> None:
        if turn.done():
            return
        if self.held:
            self.held -= 1
            turn.set_result(True)
        elif self.is_used_up:
            turn.set_result(False)
        else:
            self.waiting.append(turn)


class RateLimiter:
    """Used from one event loop."""

    def __init__(
        self, store: Store, clock: Clock, *, workers: Callable[[], int] | None = None, entries: int = ENTRIES
    ) -> None:
        """`workers`: how many share the limits, as far as is known."""
        self._store = store
        self._clock = clock
        self._now = clock.now
        self._workers = workers or _one
        self._entries = entries
        self._minutes = MinuteWindow()
        self._recent: dict[_Place, _Budget] = {}
        self._earlier: dict[_Place, _Budget] = {}
        self._asked: list[_Budget] = []
        self._asking: asyncio.Task[None] | None = None
        self._distrusts = False
        self._ask_again_at = 0.0

    def take_now(self, caller: RateLimitKey) -> RateLimitStatus | None:
        """Count a request if that needs no asking; None if it does, and then nothing was counted."""
        minutes, now = self._minutes, self._now()
        if not minutes.start_ms <= now < minutes.end_ms:
            self._turn(now)
        organization, number, limit = caller
        if not limit:
            return RateLimitStatus(UNLIMITED, UNLIMITED, minutes.reset_at, False)
        budget = self._recent.get((organization, number)) or self._find((organization, number))
        if budget is None or budget.limit != limit:
            return None
        if budget.held:
            budget.held -= 1
            if budget.held <= budget.low and not budget.is_used_up:
                self._ask(budget)
            return self._told(budget, refused=False)
        return self._told(budget, refused=True) if budget.is_used_up else None

    async def take(self, caller: RateLimitKey) -> RateLimitStatus:
        """Count a request, or refuse it."""
        allowance = self.take_now(caller)
        if allowance is not None:
            return allowance
        budget = self._budget(caller)
        verdict = None if self._distrusts else await self._turn_of(budget)
        if verdict is None:
            return self._told(budget, refused=not self._trust(budget))
        return self._told(budget, refused=not verdict)

    def count(self, caller: RateLimitKey) -> RateLimitStatus:
        """Count a request that is never refused, and never waits."""
        allowance = self.take_now(caller)
        if allowance is None:
            budget = self._budget(caller)
            budget.owed += 1
            self._ask(budget)
            return self._told(budget, refused=False)
        return RateLimitStatus(allowance.limit, allowance.remaining, allowance.reset_at, False)

    def look(self, caller: RateLimitKey) -> RateLimitStatus:
        """What a caller has left, without counting anything."""
        self._turn(self._now())
        if not caller.limit:
            return RateLimitStatus(UNLIMITED, UNLIMITED, self._minutes.reset_at, False)
        budget = self._find(caller[:2])
        if budget is None or budget.limit != caller.limit:
            return RateLimitStatus(caller.limit, caller.limit, self._minutes.reset_at, False)
        return self._told(budget, refused=False)

    def refusal(self, allowance: RateLimitStatus) -> TooManyRequests:
        """What whoever was refused is told."""
        seconds = max(1, -((self._now() - allowance.reset_at * 1_000) // 1_000))
        detail = f"At most {allowance.limit} requests a minute are allowed. Try again in {seconds} s."
        return TooManyRequests(detail, retry_after_seconds=seconds)

    def _turn(self, now: int) -> None:
        if self._minutes.advance(now, self._clock.monotonic()):
            self._recent, self._earlier = {}, {}

    def _told(self, budget: _Budget, *, refused: bool) -> RateLimitStatus:
        remaining = 0 if refused else budget.remaining
        return RateLimitStatus(budget.limit, remaining, (budget.minute + 1) * 60, refused)

    def _find(self, place: _Place) -> _Budget | None:
        budget = self._recent.get(place)
        if budget is None and (budget := self._earlier.pop(place, None)) is not None:
            self._keep(budget)
        return budget

    def _budget(self, caller: RateLimitKey) -> _Budget:
        """What is known of a caller. Under another limit it begins anew, and what is held goes back to the store."""
        place = (caller.organization, caller.caller)
        known = self._find(place)
        if known is not None and known.limit == caller.limit:
            return known
        budget = _Budget(place, caller.limit, self._minutes.number, reserve_size(caller.limit, self._workers()))
        if known is not None:
            budget.returned, known.held = known.held + known.returned, 0
        self._keep(budget)
        return budget

    def _keep(self, budget: _Budget) -> None:
        self._recent[budget.place] = budget
        if len(self._recent) > self._entries:
            self._recent, self._earlier = {}, self._recent

    def _trust(self, budget: _Budget) -> bool:
        """Whether to admit a request by what this worker alone has counted."""
        self._ask(budget)
        if budget.admitted >= budget.limit:
            return False
        budget.owed += 1
        return True

    async def _turn_of(self, budget: _Budget) -> bool | None:
        """Whether a request is within the limit; None when the store does not say so in time."""
        turn: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        budget.waiting.append(turn)
        self._ask(budget)
        try:
            done, _ = await asyncio.wait((turn,), timeout=_PATIENCE_SECONDS)
        finally:
            if not turn.done():
                turn.cancel()
        return turn.result() if done else None

    def _ask(self, budget: _Budget) -> None:
        """Take more for it soon. Those that ask meanwhile go together."""
        if budget.is_asked or (self._distrusts and self._clock.monotonic() < self._ask_again_at):
            return
        budget.is_asked = True
        self._asked.append(budget)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_store())

    async def _ask_store(self) -> None:
        try:
            while self._asked:
                together = sorted(self._asked[:_TAKEN_TOGETHER], key=lambda budget: (budget.place, budget.minute))
                del self._asked[:_TAKEN_TOGETHER]
                await self._take_for(together)
        finally:
            self._asking = None

    async def _take_for(self, budgets: list[_Budget]) -> None:
        workers = self._workers()
        wishes = [budget.wish(reserve_size(budget.limit, workers)) for budget in budgets]
        try:
            taken = await self._store.write(partial(rate_limits.take, wishes=wishes))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            self._failed(budgets, error)
            return
        self._distrusts = False
        for budget, wish, each in zip(budgets, wishes, taken, strict=True):
            budget.is_asked = False
            budget.take(wish, each)
            if budget.waiting:
                self._ask(budget)

    def _failed(self, budgets: list[_Budget], error: Exception) -> None:
        self._distrusts = True
        self._ask_again_at = self._clock.monotonic() + _DISTRUST_SECONDS
        for budget in budgets:
            budget.is_asked = False
            budget.give_up()
        if not isinstance(error, Unavailable):
            context = {"message": "requests could not be counted", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def _one() -> int:
    return 1
