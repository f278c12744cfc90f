"""Ownership of cursors: a worker expires workers that are gone, claims free cursors, and releases surplus ones.

Rendezvous hashing decides which worker should own a cursor. The database decides which worker does:
`store.cursors.claim` updates only free cursors, and raises the token that guards all later writes.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, Generic, Literal, TypeVar

from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.lease import Leadership, Lease
from discue.observability.logs import Log
from discue.store import workers
from discue.store.engine import FREE_IN_SNAPSHOT, ClusterSnapshot, CursorKey, Notification, WorkerRow
from discue.store.store import Store
from discue.store.time_slice import TimeSlice

_SETTLE_SECONDS: Final = 3.0
"""How long something must stay as it is before a worker acts on it in place of another one."""
_FREED_PER_STEP: Final = 500
_RELEASED_PER_STEP: Final = 2_000
_RELEASE_INTERVAL_SECONDS: Final = 1.0
_PART: Final = 256
"""How many cursors are assigned to workers before other work on the event loop may run."""
_LEADER_KEY: Final = (0,)
"""The key whose owner by rendezvous hashing is the leader."""

T = TypeVar("T")

Predecessors = Sequence[int] | Literal["all"]
"""Session ids of workers that are known to have ended; "all": no other process uses the database."""


_MASK = (1 << 64) - 1
# Odd 64-bit constants with well-mixed bits (SplitMix64): multiplying by them spreads differences into the high bits.
_FIRST = 0x9E3779B97F4A7C15
_SECOND = 0xBF58476D1CE4E5B9


class Rendezvous:
    """The assignment of items to a set of members, by rendezvous hashing. An item is identified by a tuple of integers.

    Workers that see the same members agree on the owner of each item without communication. If a member leaves, only
    its items move; if one joins, only the items that it gets move.
    """

    def __init__(self, members: Sequence[int]) -> None:
        """Raises ValueError without members."""
        if not members:
            raise ValueError("there are no members")
        # Sorted: of two equal weights the first wins, and that must not depend on the caller's order.
        self._members = [(member, _mixed(member)) for member in sorted(members)]

    def owner_of(self, item: tuple[int, ...]) -> int:
        number = 0
        for part in item:
            number = _mixed(number ^ part)
        best, chosen = -1, 0
        for member, salt in self._members:
            weight = ((number ^ salt) * _SECOND) & _MASK
            weight = ((weight ^ (weight >> 32)) * _FIRST) & _MASK
            if weight > best:
                best, chosen = weight, member
        return chosen


def _mixed(number: int) -> int:
    number = (number * _FIRST) & _MASK
    number = ((number ^ (number >> 30)) * _SECOND) & _MASK
    return number ^ (number >> 31)


class FirstSeen(Generic[T]):
    """How long each item has been seen without interruption."""

    def __init__(self) -> None:
        self._since: dict[T, float] = {}

    def update(self, items: Iterable[T], now: float) -> None:
        self._since = {item: self._since.get(item, now) for item in items}

    def seen_for(self, seconds: float, now: float) -> set[T]:
        """Return the items that were seen for at least so long."""
        return {item for item, since in self._since.items() if now - since >= seconds}


def is_ahead(worker: WorkerRow) -> bool:
    """Whether a lease ends later than its length allows: the database's clock was set back. A live worker renews it."""
    return worker.remaining_ms > worker.lease_ms


def candidates(members: Iterable[WorkerRow]) -> tuple[int, ...]:
    """Return the session ids of the workers that should own cursors, in order."""
    return tuple(
        sorted(
            member.session_id
            for member in members
            if not (member.dead or member.is_leaving or member.role == "api")
            and member.remaining_ms > 0
            and not is_ahead(member)
        )
    )


def to_expire(members: Iterable[WorkerRow], me: int, long_ahead: Collection[int]) -> list[WorkerRow]:
    """Return the other workers whose lease is over.

    A lease that is ahead counts as over once it was ahead for its whole length (`long_ahead`).
    """
    return [
        member
        for member in members
        if member.session_id != me
        and not member.dead
        and (member.remaining_ms <= 0 or (is_ahead(member) and member.session_id in long_ahead))
    ]


def to_claim(shares: Rendezvous, me: int, free: Iterable[CursorKey], overdue: Collection[CursorKey]) -> list[CursorKey]:
    """Return the free cursors that this worker should own, and those that their preferred owner left for too long."""
    return [cursor for cursor in free if cursor in overdue or shares.owner_of(cursor) == me]


def to_release(shares: Rendezvous, me: int, owned: Iterable[CursorKey]) -> list[CursorKey]:
    """Return the owned live cursors that another worker should own. The cursors of replays follow them."""
    return [cursor for cursor in owned if not cursor[2] and shares.owner_of(cursor) != me]


async def _in_parts(
    choose: Callable[[Sequence[CursorKey]], list[CursorKey]], cursors: Sequence[CursorKey]
) -> list[CursorKey]:
    """Choose among any number of cursors, in slices of work on the event loop."""
    time_slice, chosen = TimeSlice(), list[CursorKey]()
    for start in range(0, len(cursors), _PART):
        chosen += choose(cursors[start : start + _PART])
        await time_slice.pause_if_over()
    return chosen


class Ownership:
    """Acts on each snapshot of the cluster, one at a time."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        lease: Lease,
        leadership: Leadership,
        *,
        log: Log,
        on_recorded: Callable[[int | None], None],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self.lease = lease
        self._session = lease.session
        self._clock = lease.session.clock
        self._log = log
        self._candidates: tuple[int, ...] = ()
        self._shares: Rendezvous | None = None
        self._changed_at = 0.0
        """When the candidates last changed, by the monotonic clock."""
        self._free: FirstSeen[CursorKey] = FirstSeen()
        self._dead: FirstSeen[int] = FirstSeen()
        self._ahead: FirstSeen[int] = FirstSeen()
        self._lease_ends: dict[int, float] = {}
        """When the lease of each session seemed to end at the last snapshot, by the local monotonic clock."""
        # None until the members have been the same for long enough. Cursors that are claimed later stay here, even
        # if another worker should own them: it left them free, and would do so again.
        self._surplus: list[CursorKey] | None = None
        self._released_at = 0.0
        self._is_handing_over = False
        """Whether surplus cursors are being handed over."""
        self._leadership = leadership
        self._on_recorded = on_recorded
        """Called for each snapshot with the due time of the next delayed message or run, once it is known whether this
        worker is the leader.

        The leader starts its work then, because claiming and releasing cursors can take seconds.
        """

    async def begin(self, predecessors: Predecessors) -> None:
        """Expire the predecessors and claim all cursors that this worker should own. Returns when they are claimed."""
        me, first = self._session.id, await self._store.poll(())
        # Other workers take this one for a member as soon as it has joined, and perhaps for the leader.
        self._record(first, self._clock.monotonic())
        for member in first.members:
            is_gone = predecessors == "all" or member.session_id in predecessors
            if is_gone and member.session_id != me:
                await self._store.write_urgently(
                    partial(workers.expire_worker, session_id=member.session_id, known_dead=True)
                )
                await self._free_cursors_of(member.session_id)
        await self.release_orphaned()
        while await self.on_snapshot(await self._store.poll(())):
            pass
        # Other workers learn that they are not alone.
        self._store.engine.notify(Notification(cursors=True))

    async def on_snapshot(self, snapshot: ClusterSnapshot) -> bool:
        """Act on a snapshot. Returns whether there is more to do: poll again at once."""
        now = self._clock.monotonic()
        own = self._record(snapshot, now)
        has_jumped = self._has_clock_jumped(snapshot.members, now)
        if not self._session.is_held() or own is None or own.dead:
            return False
        if has_jumped or own.remaining_ms <= 0 or is_ahead(own):
            # By the local clock the lease is held, so the database's clock has moved: all leases look like this one.
            # If this worker has renewed its own since then, only those of the others do.
            self.lease.invalidate()
        freed = await self._expire_workers(snapshot.members, now)
        claimed = await self._claim(snapshot.free, now)
        await self._release_surplus(now)
        return freed or (claimed > 0 and len(snapshot.free) >= FREE_IN_SNAPSHOT)

    async def release_orphaned(self) -> None:
        """Free the cursors of owners that have no row, and so can never be expired."""
        owner = await self._store.read(partial(workers.missing_owner_after, session_id=0))
        while owner is not None:
            await self._free_cursors_of(owner)
            owner = await self._store.read(partial(workers.missing_owner_after, session_id=owner))

    def _record(self, snapshot: ClusterSnapshot, now: float) -> WorkerRow | None:
        """Note who the members are and which cursors are free. Returns this worker's row."""
        own = next((member for member in snapshot.members if member.session_id == self._session.id), None)
        others = sum(not member.dead and member is not own for member in snapshot.members)
        self._store.has_other_workers, self._store.workers = others > 0, others + 1
        self._free.update(snapshot.free, now)
        self._dead.update((member.session_id for member in snapshot.members if member.dead), now)
        self._ahead.update((member.session_id for member in snapshot.members if is_ahead(member)), now)
        found = candidates(snapshot.members)
        if found != self._candidates:
            self._candidates, self._changed_at = found, now
            self._shares = Rendezvous(found) if found else None
            self._surplus = None
        is_leader = self._shares is not None and self._shares.owner_of(_LEADER_KEY) == self._session.id
        if is_leader != self._leadership.is_held:
            self._leadership.is_held = is_leader
            self._log.info("leader_gained" if is_leader else "leader_lost", session_id=self._session.id)
        self._on_recorded(snapshot.scheduled_at)
        return own

    def _has_clock_jumped(self, members: Sequence[WorkerRow], now: float) -> bool:
        """Return whether the database's clock was set forward since the last call, and note when the leases end.

        A renewal moves the end of a lease away. Nothing else brings it nearer by more than the time of a slow poll. A
        jump that is smaller than a renewal's interval ends no lease that is renewed.
        """
        before = self._lease_ends
        self._lease_ends = {member.session_id: now + member.remaining_ms / 1_000 for member in members}
        return any(
            ends_at < before.get(session_id, -math.inf) - self.lease.renewal_seconds
            for session_id, ends_at in self._lease_ends.items()
        )

    async def _expire_workers(self, members: Sequence[WorkerRow], now: float) -> bool:
        # The worker that expired another one frees its cursors. Only if it is gone, too, does this one take over.
        dead = self._dead.seen_for(_SETTLE_SECONDS, now)
        long_ahead = self._ahead.seen_for(self.lease.seconds, now)
        for member in to_expire(members, self._session.id, long_ahead):
            expire = partial(workers.expire_worker, session_id=member.session_id)
            if self.lease.may_expire(member.lease_ms) and await self._store.write_urgently(expire):
                self._log.warning("peer_expired", session_id=member.session_id)
                self._store.measures.takeovers += 1
                dead.add(member.session_id)
        for session_id in sorted(dead):
            await self._free_cursors_of(session_id)
        return bool(dead)

    async def _free_cursors_of(self, dead: int) -> None:
        step = partial(workers.release_cursors, dead=dead, limit=_FREED_PER_STEP)
        freed = _FREED_PER_STEP
        while freed == _FREED_PER_STEP:
            freed = await self._store.write_urgently(step)
            self._store.engine.notify(Notification(cursors=True))
        await self._store.write_urgently(partial(workers.delete, session_id=dead))

    async def _claim(self, free: Sequence[CursorKey], now: float) -> int:
        me = self._session.id
        if self._shares is None or me not in self._candidates or self._dispatcher.registry.is_closed:
            return 0
        choose = partial(to_claim, self._shares, me, overdue=self._free.seen_for(_SETTLE_SECONDS, now))
        claims = await _in_parts(choose, free)
        if not claims:
            return 0
        claimed = await self._dispatcher.registry.take(claims)
        self._log.debug("cursors_claimed", count=claimed)
        return claimed

    async def _release_surplus(self, now: float) -> None:
        me, shares, owned = self._session.id, self._shares, self._dispatcher.lanes.cursors
        if shares is None or me not in self._candidates or self._is_handing_over or self._dispatcher.registry.is_closed:
            return
        if self._surplus is None:
            if now - self._changed_at < _SETTLE_SECONDS:
                return
            self._surplus = await _in_parts(partial(to_release, shares, me), tuple(owned))
        if not self._surplus or now - self._released_at < _RELEASE_INTERVAL_SECONDS:
            return
        self._released_at = now
        # A lane whose outcomes cannot be stored is not handed over, and the polls must go on.
        self._is_handing_over = True
        self._dispatcher.tasks.spawn(self._hand_over(self._surplus, shares))

    async def _hand_over(self, surplus: Sequence[CursorKey], shares: Rendezvous) -> None:
        some, rest = surplus[:_RELEASED_PER_STEP], surplus[_RELEASED_PER_STEP:]
        # If the handover fails, or the members change meanwhile, the surplus is determined again.
        self._surplus = None
        try:
            await self._dispatcher.hand_over([cursor for cursor in some if cursor in self._dispatcher.lanes.cursors])
            if self._shares is shares:
                self._surplus = list(rest)
            self._log.debug("cursors_released", count=len(some))
        finally:
            self._is_handing_over = False
