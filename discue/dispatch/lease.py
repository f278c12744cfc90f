"""A worker's lease, and leadership. Attempts start only while no other worker can have taken over the cursors."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from functools import partial
from typing import Final

from discue.dispatch.lane.context import WorkerSession
from discue.dispatch.lane.states import Transitions, transition
from discue.domain.ids import RowIds
from discue.store import workers
from discue.store.engine import UniqueViolation
from discue.store.store import Store

_RENEWALS_PER_LEASE: Final = 3
# The process may stall between the check of the clock and the first byte of an attempt, and the database's clock may
# run faster than the local one.
_SAFETY_MARGIN: Final = 0.1
_CURSORS_PER_STEP: Final = 500


class LeaseState(Enum):
    """The life of a lease. In `ACTIVE` and `LEAVING` the clock decides whether it is held."""

    NOT_JOINED = auto()
    ACTIVE = auto()
    """The worker has a row, renews it, and takes cursors."""
    LEAVING = auto()
    """Like `ACTIVE`, but the worker takes no cursors, and does not join again if it is expired."""
    EXPIRED = auto()
    """Another worker has expired this one. Its cursors are gone, and it joins again under a new session id."""
    ENDED = auto()
    """The worker has left. The lease is never held again."""


LEASE_TRANSITIONS: Final[Transitions[LeaseState]] = {
    LeaseState.NOT_JOINED: frozenset({LeaseState.ACTIVE, LeaseState.LEAVING, LeaseState.ENDED}),
    LeaseState.ACTIVE: frozenset({LeaseState.LEAVING, LeaseState.EXPIRED, LeaseState.ENDED}),
    LeaseState.LEAVING: frozenset({LeaseState.ENDED}),
    LeaseState.EXPIRED: frozenset({LeaseState.ACTIVE, LeaseState.LEAVING, LeaseState.ENDED}),
    LeaseState.ENDED: frozenset(),
}


class Lease:
    """The lease of one worker. Its owner calls `renew` every `renewal_seconds`.

    For other workers, the database's clock decides when the lease is over. Here only durations count: it is held for
    less than its length, counted from before the renewal was sent.
    """

    def __init__(
        self,
        store: Store,
        session: WorkerSession,
        row_ids: RowIds,
        role: str,
        *,
        seconds: float,
        on_expired: Callable[[], None],
        on_held: Callable[[], None],
        announce: Callable[[int], None] | None = None,
    ) -> None:
        """`row_ids` get the slot that comes with the lease."""
        self.session = session
        self.seconds = seconds
        self._lease_ms = round(seconds * 1_000)
        self._on_expired = on_expired
        """Called when another worker has expired this one, before it joins under a new session id."""
        self._on_held = on_held
        """Called when the lease is held again after it was not."""
        self._announce = announce
        """Called with a session id before anything is written under it."""
        self._store = store
        self._row_ids = row_ids
        self._clock = session.clock
        self._role = role
        self._state = LeaseState.NOT_JOINED
        self._trusted_since = math.inf
        """When other workers became able to renew their leases; infinite until the next renewal."""
        # Two concurrent renewals that find the row expired would both join, and one row would have no worker.
        self._renewal_lock = asyncio.Lock()

    @property
    def renewal_seconds(self) -> float:
        """How long to wait between renewals: one or two may fail before the lease is over."""
        return self.seconds / _RENEWALS_PER_LEASE

    def may_expire(self, lease_ms: int) -> bool:
        """Whether another worker may be expired whose lease has this length and seems to be over.

        After an outage of the database all leases are over: each worker first gets the time of a renewal to return,
        which is longer for a worker whose settings make its lease longer.
        """
        returned_at = self._trusted_since + max(self.seconds, lease_ms / 1_000) / _RENEWALS_PER_LEASE
        return self.session.is_held() and self._clock.monotonic() >= returned_at

    def invalidate(self) -> None:
        """Trust no other lease to be over until its worker had time to renew it.

        Called when the database was unavailable, or its clock moved.
        """
        self._trusted_since = math.inf

    async def join(self) -> None:
        """Start under a new session id. Raises Unavailable if the store does not work or all slots are taken."""
        while True:
            session_id, sent_at = self._row_ids.next(), self._clock.monotonic()
            if self._announce is not None:
                self._announce(session_id)
            self._store.engine.begin_session(session_id)
            try:
                work = partial(workers.join, session_id=session_id, role=self._role, lease_ms=self._lease_ms)
                slot = await self._store.write_urgently(work)
                break
            except UniqueViolation:
                continue
        self._row_ids.slot = slot
        self.session.id = session_id
        self._trusted_since = math.inf
        if self._state in {LeaseState.NOT_JOINED, LeaseState.EXPIRED}:
            # Else it began to leave while it joined.
            self._set_state(LeaseState.ACTIVE)
        self._hold(sent_at)

    async def renew(self) -> bool:
        """Renew the lease. Returns False if this worker was expired; unless it is leaving, it has joined again.

        Raises Unavailable if the store does not work: the lease runs on to its end.
        """
        async with self._renewal_lock:
            # An expired session is not renewed, even if a failover has lost what expired it: its lanes are gone.
            if self._state is not LeaseState.EXPIRED:
                sent_at = self._clock.monotonic()
                work = partial(workers.renew, session_id=self.session.id, lease_ms=self._lease_ms)
                if await self._store.write_urgently(work):
                    self._hold(sent_at)
                    return True
                self.session.held_until = -math.inf
                if self._state is LeaseState.ACTIVE:
                    self._set_state(LeaseState.EXPIRED)
                self._on_expired()
            if self._state is LeaseState.EXPIRED:
                await self.join()
            return False

    async def begin_leaving(self) -> None:
        """Let other workers see that this one takes no more cursors. The lease goes on."""
        if self._state is not LeaseState.ENDED:
            self._set_state(LeaseState.LEAVING)
        await self._store.write_urgently(partial(workers.begin_leaving, session_id=self.session.id))

    async def leave(self) -> None:
        """End the lease, and release all cursors that still name this worker."""
        self._set_state(LeaseState.ENDED)
        self.session.held_until = -math.inf
        step = partial(workers.leave, session_id=self.session.id, limit=_CURSORS_PER_STEP)
        while not await self._store.write_urgently(step):
            pass

    def _set_state(self, state: LeaseState) -> None:
        if state is not self._state:
            self._state = transition(LEASE_TRANSITIONS, self._state, state)

    def _hold(self, sent_at: float) -> None:
        if self._state is LeaseState.ENDED:
            # The renewal was in flight when the worker left.
            return
        was_held = self.session.is_held()
        if not was_held or self._trusted_since == math.inf:
            self._trusted_since = self._clock.monotonic()
        self.session.held_until = sent_at + self.seconds * (1 - _SAFETY_MARGIN)
        if not was_held:
            self._on_held()


class Leadership:
    """Whether this worker leads. `Ownership` decides; a brief split-brain is harmless, only wasteful."""

    def __init__(self, *, is_held: bool = False) -> None:
        self.is_held = is_held

    def only(self, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """Return work that does nothing unless this worker leads."""

        async def run() -> None:
            if self.is_held:
                await work()

        return run
