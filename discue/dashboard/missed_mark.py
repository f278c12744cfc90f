"""The number of missed messages next to *Missed* in the navigation: exact up to 99, at most five seconds old."""

from typing import Final

from discue.auth.control_plane_cache import LruCache
from discue.control.context import ControlContext
from discue.domain.scopes import Principal
from discue.store.engine import Transaction
from discue.store.tables import read_number

MOST: Final = 99
"""The largest number that is shown. Larger ones are shown as `99+`."""
_KEPT_MS: Final = 5_000
_ORGANIZATIONS: Final = 1_000
"""Number of organizations whose counts are cached."""

# Each part reads at most 100 entries of an index. All messages of a range count.
_COUNT: Final = f"""
    SELECT (SELECT count(*) FROM (
            SELECT seq FROM delivery WHERE organization = $1 AND state = 'missed' AND stream + 0 = 0
            ORDER BY listener, seq LIMIT {MOST + 1}) AS looked_at)
        + CAST((SELECT coalesce(sum(seq_to - seq_from + 1), 0) FROM (
            SELECT seq_from, seq_to FROM missed_range WHERE organization = $1
            ORDER BY listener, seq_from LIMIT {MOST + 1}) AS looked_at) AS BIGINT)"""


async def count(tx: Transaction, organization: int) -> int:
    """Count the missed messages of all listeners of an organization. A result above `MOST` is a lower bound."""
    return await read_number(tx, _COUNT, organization)


class MissedMark:
    """The numbers of missed messages, cached by organization."""

    def __init__(self, control: ControlContext) -> None:
        self._control = control
        self._known: LruCache[int, tuple[int, int]] = LruCache(_ORGANIZATIONS)
        """By row id of the organization: when the number was read, in milliseconds since the epoch, and the number."""

    async def text(self, principal: Principal, now: int, *, is_fresh: bool = False) -> str:
        """Return the text of the mark; "" if nothing was missed, or if the user may not read all listeners.

        `is_fresh` bypasses the cache, because the user has just changed something.
        """
        if not principal.allows_all("listeners", "read"):
            return ""
        organization = principal.organization
        read_at, number = self._known.get(organization) or (0, 0)
        if is_fresh or not read_at <= now < read_at + _KEPT_MS:
            number = await self._control.store.read(lambda tx: count(tx, organization))
            self._known.put(organization, (now, number), (organization,))
        return f"{MOST}+" if number > MOST else str(number or "")
