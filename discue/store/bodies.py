"""Bodies that several messages share: rows of the log in different queues name the same one."""

from collections.abc import Collection
from functools import cache
from typing import Final

from discue.store import tallies
from discue.store.engine import Row, Transaction
from discue.store.tables import chunks, placeholders

_RELEASE: Final = "UPDATE body SET uses = uses - 1 WHERE organization = $1 AND id IN ({})"
_FORGET: Final = "DELETE FROM body WHERE organization = $1 AND id IN ({}) AND uses <= 0"


async def removed(tx: Transaction, organization: int, rows: Collection[Row]) -> int:
    """Messages of one queue, by their sizes and shared bodies (or None), are not kept any more; how many.

    A body goes with the last of them. Counting, unlike looking for others that name it, also holds where two of them
    are removed at the same moment.
    """
    # In one order everywhere: else two queues that share many bodies would wait for each other.
    for chunk in chunks(sorted(body for _, body in rows if body is not None)):
        release, forget = _statements(len(chunk))
        await tx.execute(release, organization, *chunk)
        await tx.execute(forget, organization, *chunk)
    return await tallies.removed(tx, organization, [(size,) for size, _ in rows])


@cache
def _statements(count: int) -> tuple[str, str]:
    among = placeholders(2, count)
    return _RELEASE.format(among), _FORGET.format(among)
