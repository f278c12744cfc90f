"""What a replay has brought about: nothing of it is missed by the listener, whatever becomes of a message."""

from typing import Final

from discue.dispatch.lane.cursor_state import CursorState
from discue.domain.clock import Clock
from discue.store.cursors import LaneRecord
from discue.store.engine import DeliveryRow, ReplayStep

_EXPIRED: Final = frozenset({"expired", "too_old"})


class ReplayCursorState(CursorState):
    """What ends without success leaves no row: it is counted, as failed or as expired."""

    __slots__ = ("_clock", "_expired")

    def __init__(self, record: LaneRecord, clock: Clock) -> None:
        super().__init__(record)
        self._clock = clock
        self._expired = 0

    def miss(self, first: int, last: int, reason: str, now: int) -> None:
        del reason, now
        self.skip(first, last)
        self._expired += last - first + 1

    def _miss_one(self, row: DeliveryRow, *, excepted: bool) -> None:
        if row.reason in _EXPIRED:
            self._expired += 1
        else:
            self.missed += 1
        if excepted:
            self._resolve(row.seq)
        else:
            self.window.settle(row.seq)
            self._free(row.seq)

    def _replay_step(self) -> ReplayStep:
        step = ReplayStep(self._expired, self._clock.now())
        self._expired = 0
        return step
