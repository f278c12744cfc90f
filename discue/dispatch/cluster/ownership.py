"""Which worker owns which cursor: buries those that are gone, takes what is free, gives up what others should have.

Rendezvous hashing says who should own a cursor. Who does own it, the database decides: by guarded writes, and by the
token of the cursor.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final, Generic, Literal, Protocol, TypeVar

from discue.dispatch.cluster.lease import Lease
from discue.domain.clock import Clock
from discue.domain.rendezvous import Rendezvous
from discue.observability.logs import Log
from discue.store import workers
from discue.store.engine import ClusterSnapshot, CursorKey, Notification, WorkerRow
from discue.store.store import Store

_PATIENCE_SECONDS: Final = 3.0
_FREED_AT_ONCE: Final = 500
_GIVEN_UP_AT_ONCE: Final = 500
_GIVING_UP_SECONDS: Final = 1.0
_FREE_SHOWN: Final = 1_000
_THE_HOUSE: Final = (0,)

T = TypeVar("T")

Predecessors = Sequence[int] | Literal["all"]
"""Incarnations that are known to have ended; "all": nobody but this process is on the database."""


class Lanes(Protocol):
    """What delivers for the cursors that are owned here: `dispatcher.Dispatcher`."""

    @property
    def owned(self) -> Collection[CursorKey]: ...

    async def take(self, cursors: Sequence[CursorKey]) -> int: ...

    async def hand_over(self, cursors: Sequence[CursorKey]) -> None: ...


class Sightings(Generic[T]):
    """Since when each thing has been there, at every look."""

    def __init__(self) -> None:
        self._since: dict[T, float] = {}

    def look(self, things: Iterable[T], now: float) -> None:
        """These are there now, and nothing else."""
        self._since = {thing: self._since.get(thing, now) for thing in things}

    def for_seconds(self, seconds: float, now: float) -> set[T]:
        """What has been there for so long."""
        return {thing for thing, since in self._since.items() if now - since >= seconds}


def is_ahead(member: WorkerRow) -> bool:
    """Its lease reaches further than it is long: the database's clock went back since. Whoever lives mends that."""
    return member.remaining_ms > member.lease_ms


def candidates(members: Iterable[WorkerRow]) -> tuple[int, ...]:
    """Those who should own cursors, in order."""
    return tuple(sorted(member.session_id for member in members if _is_candidate(member)))


def to_bury(members: Iterable[WorkerRow], me: int, long_ahead: Collection[int]) -> list[int]:
    """Those whose lease is over. One that is ahead counts when it has been so for the whole length of a lease."""
    return [
        member.session_id
        for member in members
        if member.session_id != me
        and not member.dead
        and (member.remaining_ms <= 0 or (is_ahead(member) and member.session_id in long_ahead))
    ]


def to_claim(shares: Rendezvous, me: int, free: Iterable[CursorKey], overdue: Collection[CursorKey]) -> list[CursorKey]:
    """Of the free cursors those that belong to `me`, and those that whoever should have them left for too long."""
    return [cursor for cursor in free if cursor in overdue or shares.owner_of(cursor) == me]


def to_give_up(shares: Rendezvous, me: int, owned: Iterable[CursorKey]) -> list[CursorKey]:
    """Of the owned live cursors those that belong to somebody else: those of replays go with them."""
    return [cursor for cursor in owned if not cursor[2] and shares.owner_of(cursor) != me]


class Ownership:
    """Acts on what each look at the database shows. One look at a time."""

    def __init__(self, store: Store, lanes: Lanes, lease: Lease, clock: Clock, log: Log) -> None:
        self._store = store
        self._lanes = lanes
        self._lease = lease
        self._clock = clock
        self._log = log
        self._leaves = False
        self._candidates: tuple[int, ...] = ()
        self._shares: Rendezvous | None = None
        self._membership: Sightings[tuple[int, ...]] = Sightings()
        self._free: Sightings[CursorKey] = Sightings()
        self._dead: Sightings[int] = Sightings()
        self._ahead: Sightings[int] = Sightings()
        # None until the members have been the same for long enough. What is taken afterwards stays here, also
        # what somebody else should have had: he would leave it lying again.
        self._surplus: list[CursorKey] | None = None
        self._gave_up_at = 0.0
        self.keeps_house = False
        """Whether this worker is the one that deletes what is old."""

    async def begin(self, predecessors: Predecessors) -> None:
        """Bury those who are known to be gone, and take what is free and belongs here. Returns when it is taken."""
        me = self._lease.session_id
        for member in (await self._store.engine.poll(())).members:
            gone = predecessors == "all" or member.session_id in predecessors
            if gone and member.session_id != me:
                await self._store.write(partial(workers.expire_worker, session_id=member.session_id, known_dead=True))
                await self._free_cursors_of(member.session_id)
        await self.free_forsaken()
        while await self.saw(await self._store.engine.poll(())):
            pass
        # The others have company from now on.
        self._store.engine.notify(Notification(cursors=True))

    def begin_leaving(self) -> None:
        """Take nothing any more."""
        self._leaves = True

    async def saw(self, polled: ClusterSnapshot) -> bool:
        """Act on it. True when there is more to do: look again at once."""
        now, me = self._clock.monotonic(), self._lease.session_id
        own = next((member for member in polled.members if member.session_id == me), None)
        others = sum(not member.dead and member is not own for member in polled.members)
        self._store.has_other_workers, self._store.workers = others > 0, others + 1
        self._note(polled, now)
        if not self._lease.is_held() or own is None or own.dead:
            return False
        if own.remaining_ms <= 0 or is_ahead(own):
            # By our clock it is held: the database's has moved, and every other lease looks like this, too.
            self._lease.doubt()
        freed = await self._bury(polled.members, now)
        claimed = await self._claim(polled.free, now)
        await self._give_up(now)
        return freed or (claimed > 0 and len(polled.free) >= _FREE_SHOWN)

    async def free_forsaken(self) -> None:
        """Free the cursors of owners that have no row, and so will never be buried."""
        owner = await self._store.read(partial(workers.missing_owner_after, session_id=0))
        while owner is not None:
            await self._free_cursors_of(owner)
            owner = await self._store.read(partial(workers.missing_owner_after, session_id=owner))

    def _note(self, polled: ClusterSnapshot, now: float) -> None:
        self._free.look(polled.free, now)
        self._dead.look((member.session_id for member in polled.members if member.dead), now)
        self._ahead.look((member.session_id for member in polled.members if is_ahead(member)), now)
        found = candidates(polled.members)
        self._membership.look((found,), now)
        if found != self._candidates:
            self._candidates = found
            self._shares = Rendezvous(found) if found else None
            self._surplus = None
        self.keeps_house = self._shares is not None and self._shares.owner_of(_THE_HOUSE) == self._lease.session_id

    async def _bury(self, members: Sequence[WorkerRow], now: float) -> bool:
        # The cursors of the dead are freed by whoever buried them. Only if he went, too, does another one go on.
        dead = self._dead.for_seconds(_PATIENCE_SECONDS, now)
        if self._lease.may_judge():
            long_ahead = self._ahead.for_seconds(self._lease.seconds, now)
            for session_id in to_bury(members, self._lease.session_id, long_ahead):
                if await self._store.write(partial(workers.expire_worker, session_id=session_id)):
                    self._log.warning("worker_gone", session_id=session_id)
                    dead.add(session_id)
        for session_id in sorted(dead):
            await self._free_cursors_of(session_id)
        return bool(dead)

    async def _free_cursors_of(self, dead: int) -> None:
        step = partial(workers.release_cursors, dead=dead, limit=_FREED_AT_ONCE)
        freed = _FREED_AT_ONCE
        while freed == _FREED_AT_ONCE:
            freed = await self._store.write(step)
            self._store.engine.notify(Notification(cursors=True))
        await self._store.write(partial(workers.delete, session_id=dead))

    async def _claim(self, free: Sequence[CursorKey], now: float) -> int:
        me = self._lease.session_id
        if self._shares is None or me not in self._candidates or self._leaves:
            return 0
        claims = to_claim(self._shares, me, free, self._free.for_seconds(_PATIENCE_SECONDS, now))
        if not claims:
            return 0
        taken = await self._lanes.take(claims)
        self._log.info("cursors_taken", count=taken)
        return taken

    async def _give_up(self, now: float) -> None:
        if self._shares is None or self._leaves or self._lease.session_id not in self._candidates:
            return
        if self._surplus is None:
            if not self._membership.for_seconds(_PATIENCE_SECONDS, now):
                return
            self._surplus = to_give_up(self._shares, self._lease.session_id, self._lanes.owned)
        if self._surplus and now - self._gave_up_at >= _GIVING_UP_SECONDS:
            await self._give_up_some(self._surplus, now)

    async def _give_up_some(self, surplus: list[CursorKey], now: float) -> None:
        some, rest = surplus[:_GIVEN_UP_AT_ONCE], surplus[_GIVEN_UP_AT_ONCE:]
        self._gave_up_at = now
        # Should this fail, what belongs elsewhere is found out anew.
        self._surplus = None
        owned = self._lanes.owned
        await self._lanes.hand_over([cursor for cursor in some if cursor in owned])
        self._surplus = rest
        self._log.info("cursors_given_up", count=len(some))


def _is_candidate(member: WorkerRow) -> bool:
    is_alive = not member.dead and member.remaining_ms > 0 and not is_ahead(member)
    return is_alive and not member.is_leaving and member.role != "api"
