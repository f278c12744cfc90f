"""A rate limiter: requests per minute and caller, counted across all workers of an installation.

Each worker takes budget slices of a caller's minute from the store and admits requests from them. While the store is
unavailable, each worker admits up to the limit by its own count, because reads may still work. These requests are
subtracted from the minute as soon as the store is available again.
"""

import asyncio
from functools import lru_cache, partial
from typing import Final

import msgspec

from discue.config.settings import Settings
from discue.domain.clock import Clock
from discue.domain.errors import TooManyRequests, Unavailable
from discue.domain.model import Organization
from discue.domain.rate import (
    KEYS_AT_THE_LIMIT,
    UNLIMITED,
    MinuteWindow,
    RateLimitKey,
    RateLimitStatus,
    refill_size,
    refill_threshold,
    reserve_size,
)
from discue.domain.scopes import Principal
from discue.store import tallies
from discue.store.store import Store
from discue.store.tallies import BudgetGrant, BudgetRequest

ENTRIES: Final = 50_000
"""Size of each of the two generations of cached callers. The least recently used ones and their slices are dropped."""

_REFILLS_PER_WRITE: Final = 64
_TIMEOUT_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5

_CallerKey = tuple[int, int]


@lru_cache(10_000)
def address_caller(subject: str, limit: int) -> RateLimitKey:
    """Return the key of callers without a valid API key. `subject` is their address or network."""
    return RateLimitKey(0, tallies.number_of(subject), limit)


def rate_limit_key(organization: Organization, principal: Principal, settings: Settings) -> RateLimitKey:
    """Return the key that counts the requests of an API key, a user or a customer, with its limit."""
    default = 0 if principal.is_operator else settings.rate_limit
    caller = principal.key
    if principal.customer is not None:
        # All sessions of a customer in the portal are one caller: an application may create any number of them.
        # Organizations of one account share its limits, and each has its own customers.
        caller = tallies.number_of(f"{organization.id} {principal.customer}")
    limit = organization.settings.get("rate_limit", default)
    # The organization's account, without a call: this runs for each request.
    return RateLimitKey(organization.founder or organization.id, caller, limit)


def key_of_all(caller: RateLimitKey) -> RateLimitKey | None:
    """Return what the requests of all callers of an organization are counted under; None without a limit."""
    if not caller.limit:
        return None
    return RateLimitKey(caller.organization, 0, min(caller.limit * KEYS_AT_THE_LIMIT, UNLIMITED))


class _Budget(msgspec.Struct, eq=False):
    """A caller's budget for one minute, as this worker knows it."""

    key: _CallerKey
    limit: int
    minute: int
    low: int
    """Granted requests below which the next slice is requested."""
    left: int
    """Requests that the store can still grant to any worker, as last known."""
    granted: int = 0
    """Requests that the store has granted to this worker."""
    held: int = 0
    """Granted requests that are not used yet."""
    owed: int = 0
    """Requests that were admitted without a grant."""
    returned: int = 0
    """Unused requests of an earlier limit, to be given back to the store."""
    is_used_up: bool = False
    is_refilling: bool = False
    waiting: list[asyncio.Future[bool | None]] = []

    @property
    def admitted(self) -> int:
        return self.granted - self.held + self.owed

    @property
    def remaining(self) -> int:
        return max(0, self.held + self.left - self.owed)

    def next_request(self, spare: int) -> BudgetRequest:
        self.low = refill_threshold(spare)
        asked = self.owed + sum(not waiter.done() for waiter in self.waiting)
        wanted = refill_size(min(asked, self.limit), self.held, spare)
        return BudgetRequest(*self.key, self.minute, wanted, self.limit, self.returned)

    def take(self, request: BudgetRequest, taken: BudgetGrant) -> None:
        """Add a grant of the store, and admit waiting requests from it."""
        self.left = taken.left
        self.returned -= request.returned
        self.is_used_up = taken.granted < request.wanted or not taken.left
        self.granted += taken.granted
        # Requests that were admitted without a grant come first: they have already used their share.
        paid = min(self.owed, taken.granted)
        self.owed -= paid
        self.held += taken.granted - paid
        waiters, self.waiting = self.waiting, []
        for waiter in waiters:
            if waiter.done():
                continue
            if self.held:
                self.held -= 1
                waiter.set_result(True)
            elif self.is_used_up:
                waiter.set_result(False)
            else:
                # It arrived after the request was sized. The next refill includes it.
                self.waiting.append(waiter)

    def release_waiters(self) -> None:
        """Release the waiting requests without a result: the store did not respond."""
        waiters, self.waiting = self.waiting, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class RateLimiter:
    """Counts and limits the requests of one worker's callers. Used from one event loop."""

    def __init__(self, store: Store, clock: Clock, *, entries: int = ENTRIES) -> None:
        self._store = store
        self._clock = clock
        self._now = clock.now
        self._entries = entries
        self._minutes = MinuteWindow()
        self._recent: dict[_CallerKey, _Budget] = {}
        self._earlier: dict[_CallerKey, _Budget] = {}
        self._waiting: list[_Budget] = []
        self._refilling: asyncio.Task[None] | None = None
        self._is_store_down = False
        self._retry_at = 0.0

    def take_now(self, caller: RateLimitKey) -> RateLimitStatus | None:
        """Count a request without I/O. Returns None, and counts nothing, if that requires the store."""
        minutes, now = self._minutes, self._now()
        if not minutes.start_ms <= now < minutes.end_ms:
            self._roll_over(now)
        organization, number, limit = caller
        if not limit:
            return RateLimitStatus(UNLIMITED, UNLIMITED, minutes.end_ms // 1_000, False)
        budget = self._recent.get((organization, number)) or self._find((organization, number))
        if budget is None or budget.limit != limit:
            return None
        if budget.held:
            budget.held -= 1
            # Early enough that the next slice arrives before this one is used up: requests need not wait.
            if budget.held <= budget.low and not budget.is_used_up:
                self._request_refill(budget)
            return self._status(budget, refused=False)
        return self._status(budget, refused=True) if budget.is_used_up else None

    async def take(self, caller: RateLimitKey) -> RateLimitStatus:
        """Count a request, or reject it."""
        status = self.take_now(caller)
        if status is not None:
            return status
        budget = self._budget(caller)
        is_admitted = None if self._is_store_down else await self._await_grant(budget)
        if is_admitted is None:
            # Without the store, this worker admits up to the limit by its own count.
            self._request_refill(budget)
            is_admitted = budget.admitted < budget.limit
            budget.owed += is_admitted
        return self._status(budget, refused=not is_admitted)

    def count(self, caller: RateLimitKey) -> RateLimitStatus:
        """Count a request without waiting. `refused`: whether it exceeds the limit, as far as this worker knows."""
        status = self.take_now(caller)
        if status is not None:
            return status
        budget = self._budget(caller)
        is_beyond = not budget.remaining
        budget.owed += 1
        self._request_refill(budget)
        return self._status(budget, refused=is_beyond)

    def peek(self, caller: RateLimitKey) -> RateLimitStatus:
        """Return the status of a caller without counting a request."""
        self._roll_over(self._now())
        budget = self._find(caller[:2])
        # Without a request in this minute, nothing of the limit is used as far as this worker knows.
        if budget is None or budget.limit != caller.limit:
            limit = caller.limit or UNLIMITED
            return RateLimitStatus(limit, limit, self._minutes.reset_at, False)
        return self._status(budget, refused=False)

    def refusal(self, status: RateLimitStatus, setting: str, callers: str = "") -> TooManyRequests:
        """Return the error for a rejected request. `setting` is that of the limit.

        `callers` names those whom the limit is for, if they are several.
        """
        seconds = max(1, -((self._now() - status.reset_at * 1_000) // 1_000))
        allowed = f"{callers} at most {{}} requests a minute" if callers else "At most {} requests a minute are allowed"
        detail = f"{allowed.format(status.limit)}. Try again in {seconds} s; the operator can raise `{setting}`."
        return TooManyRequests(detail, retry_after_seconds=seconds)

    def _roll_over(self, now: int) -> None:
        if self._minutes.advance(now, self._clock.monotonic()):
            self._recent, self._earlier = {}, {}

    def _status(self, budget: _Budget, *, refused: bool) -> RateLimitStatus:
        remaining = 0 if refused else budget.remaining
        return RateLimitStatus(budget.limit, remaining, (budget.minute + 1) * 60, refused)

    def _find(self, key: _CallerKey) -> _Budget | None:
        budget = self._recent.get(key)
        if budget is None and (budget := self._earlier.pop(key, None)) is not None:
            self._keep(budget)
        return budget

    def _budget(self, caller: RateLimitKey) -> _Budget:
        """Return the budget of a caller. A changed limit starts a new one and returns unused requests."""
        key = (caller.organization, caller.caller)
        known = self._find(key)
        if known is not None and known.limit == caller.limit:
            return known
        low = refill_threshold(reserve_size(caller.limit, self._store.workers))
        budget = _Budget(key, caller.limit, self._minutes.number, low, left=caller.limit)
        if known is not None:
            budget.returned, known.held = known.held + known.returned, 0
        self._keep(budget)
        return budget

    def _keep(self, budget: _Budget) -> None:
        self._recent[budget.key] = budget
        # A whole generation is dropped at once: no bookkeeping per request, unlike an LRU list.
        if len(self._recent) > self._entries:
            self._recent, self._earlier = {}, self._recent

    async def _await_grant(self, budget: _Budget) -> bool | None:
        """Return whether a request is within the limit. None: the store did not respond in time."""
        waiter: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        budget.waiting.append(waiter)
        self._request_refill(budget)
        try:
            done, _ = await asyncio.wait((waiter,), timeout=_TIMEOUT_SECONDS)
        finally:
            if not waiter.done():
                waiter.cancel()
        return waiter.result() if done else None

    def _request_refill(self, budget: _Budget) -> None:
        """Request a refill of the budget. Requests made until the next write share it."""
        if budget.is_refilling or (self._is_store_down and self._clock.monotonic() < self._retry_at):
            return
        budget.is_refilling = True
        self._waiting.append(budget)
        if self._refilling is None:
            self._refilling = asyncio.get_running_loop().create_task(self._refill_all())

    async def _refill_all(self) -> None:
        try:
            while self._waiting:
                # In one order at all workers, so that their transactions lock rows in that order: no deadlock.
                together = sorted(self._waiting[:_REFILLS_PER_WRITE], key=lambda budget: (budget.key, budget.minute))
                del self._waiting[:_REFILLS_PER_WRITE]
                await self._take_for(together)
        finally:
            self._refilling = None

    async def _take_for(self, budgets: list[_Budget]) -> None:
        workers = self._store.workers
        requests = [budget.next_request(reserve_size(budget.limit, workers)) for budget in budgets]
        try:
            taken = await self._store.write(partial(tallies.take_budgets, requests=requests))
        except Exception as error:  # Whatever it is, the waiting requests need a result
            self._is_store_down = True
            self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
            for budget in budgets:
                budget.is_refilling = False
                budget.release_waiters()
            if not isinstance(error, Unavailable):
                context = {"message": "requests could not be counted", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
            return
        self._is_store_down = False
        for budget, request, each in zip(budgets, requests, taken, strict=True):
            budget.is_refilling = False
            budget.take(request, each)
            if budget.waiting:
                self._request_refill(budget)
