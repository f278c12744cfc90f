"""A worker's lease: it may begin attempts only while nobody else can have taken over what it owns."""

import asyncio
import math
from collections.abc import Callable
from functools import partial

from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.store import workers
from discue.store.engine import UniqueViolation
from discue.store.store import Store

_RENEWALS_A_LEASE = 3
# Between the look at the clock and the first byte of an attempt the process may stand still for a moment, and the
# database's clock may run faster than this machine's.
_MARGIN = 0.1
_FREED_AT_ONCE = 500


class Lease:
    """One worker's, renewed in time by whoever runs it.

    The database's clock decides when it is over for others. Here only durations count: it is held for less than its
    length, from before the renewal was sent.
    """

    def __init__(self, store: Store, row_ids: RowIds, clock: Clock, role: str, seconds: float) -> None:
        """`row_ids` get the slot that comes with the lease."""
        self.seconds = seconds
        self.lost: Callable[[], None] = _nothing_runs
        """Called when the incarnation was declared dead, before the worker goes on as another one."""
        self.regained: Callable[[], None] = _nothing_runs
        """Called when it is held again, after a time in which it was not."""
        self.announce: Callable[[int], None] = _nobody_asks
        """Called with an incarnation before anything is written under it."""
        self._store = store
        self._row_ids = row_ids
        self._clock = clock
        self._role = role
        self._session_id = 0
        self._held_until = -math.inf
        self._trusted_from = math.inf
        self._leaves = False
        # Two that find the row dead at once would both join, and one of the rows would belong to nobody.
        self._renewing = asyncio.Lock()

    @property
    def session_id(self) -> int:
        """Names this run of the worker in the rows of the cursors it owns. 0 before it has joined."""
        return self._session_id

    @property
    def slot(self) -> int:
        return self._row_ids.slot

    @property
    def renewal_seconds(self) -> float:
        """How long to wait between renewals: one or two may fail before the lease is over."""
        return self.seconds / _RENEWALS_A_LEASE

    def is_held(self) -> bool:
        """Whether an attempt may begin now."""
        return self._clock.monotonic() < self._held_until

    def may_judge(self) -> bool:
        """Whether another lease that seems to be over is.

        After an outage of the database all are: every worker first gets the time of a renewal to come back.
        """
        return self.is_held() and self._clock.monotonic() >= self._trusted_from

    def doubt(self) -> None:
        """The database stood still, or its clock moved: judge nobody until others have had the time to renew."""
        self._trusted_from = math.inf

    async def join(self) -> None:
        """Begin, under an incarnation of its own. Raises Unavailable when the store or the slots do not allow it."""
        while True:
            session_id, sent_at = self._row_ids.next(), self._clock.monotonic()
            self.announce(session_id)
            try:
                work = partial(workers.join, session_id=session_id, role=self._role, lease_ms=self._lease_ms)
                slot = await self._store.write(work)
                break
            except UniqueViolation:
                continue
        self._row_ids.slot = slot
        self._session_id = session_id
        self._trusted_from = math.inf
        self._hold(sent_at)

    async def renew(self) -> bool:
        """Go on for the length of a lease. False when this worker had been declared dead: then it joined afresh.

        Raises Unavailable when the store does not work: the lease runs on to its end.
        """
        async with self._renewing:
            sent_at = self._clock.monotonic()
            work = partial(workers.renew, session_id=self._session_id, lease_ms=self._lease_ms)
            if await self._store.write_urgently(work):
                self._hold(sent_at)
                return True
            self._held_until = -math.inf
            self.lost()
            if not self._leaves:
                await self.join()
            return False

    async def begin_leaving(self) -> None:
        """Let the others see that this worker takes no cursors any more. The lease goes on."""
        self._leaves = True
        await self._store.write(partial(workers.begin_leaving, session_id=self._session_id))

    async def leave(self) -> None:
        """End the lease, and free whatever still names this worker."""
        self._leaves = True
        self._held_until = -math.inf
        step = partial(workers.leave, session_id=self._session_id, limit=_FREED_AT_ONCE)
        while not await self._store.write(step):
            pass

    @property
    def _lease_ms(self) -> int:
        return round(self.seconds * 1_000)

    def _hold(self, sent_at: float) -> None:
        has_lapsed = not self.is_held()
        if has_lapsed or self._trusted_from == math.inf:
            self._trusted_from = self._clock.monotonic() + self.renewal_seconds
        self._held_until = sent_at + self.seconds * (1 - _MARGIN)
        if has_lapsed:
            self.regained()


def _nobody_asks(_session_id: int) -> None:
    """Nobody has to know who runs here."""


def _nothing_runs() -> None:
    """No lanes run under this lease."""
