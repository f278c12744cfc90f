"""Bounds how long the filters of all lanes hold the event loop at a stretch."""

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from discue.dispatch.lane.lane import Lane

TURN_NS: Final = 10_000_000


class FilterTurns:
    """The filters of a worker's lanes take turns with everything else on the event loop.

    A message that is published to a hundred listeners is filtered a hundred times at once, and a lane may pass over
    thousands of messages before one that its listener accepts. A turn is over when its filters may have taken 10 ms.
    The lanes that were not through go on in the next one.
    """

    def __init__(self) -> None:
        self._left = TURN_NS
        self._waiting: dict[Lane, None] = {}

    def take(self, lane: "Lane", cost_ns: int) -> bool:
        """Whether a lane may filter a message in this turn. If not, it is pumped in the next one."""
        if self._left <= 0:
            self._waiting[lane] = None
            return False
        if self._left == TURN_NS:
            asyncio.get_running_loop().call_soon(self._begin)
        # The last message of a turn may cost more than is left: otherwise a large one would never have its turn.
        self._left -= cost_ns
        return True

    def _begin(self) -> None:
        self._left = TURN_NS
        lanes, self._waiting = self._waiting, {}
        for lane in lanes:
            lane.pump()
