"""The backlogs of pull listeners, for the metrics. Their cursors have no owner that would know them."""

from typing import Final, Literal, NamedTuple

from discue.domain.window import Window
from discue.store.engine import PULL_OWNER, CursorKey, Row, Transaction
from discue.store.tables import by_index

_OVERDUE: Final = """
    CASE WHEN c.retrying > 0 THEN (
        SELECT e.due_at FROM delivery e WHERE e.organization = c.organization AND e.listener = c.listener
        AND e.stream = c.stream AND e.state = '{}' AND e.due_at <= $1 ORDER BY e.due_at LIMIT 1
    ) END"""
# Each row costs a few searches in an index, however much waits.
_BACKLOGS: Final = f"""
SELECT c.organization, c.listener, c.stream, q.public_id, l.public_id,
    CASE WHEN o.state = 'active' THEN l.status ELSE 'disabled' END, h.head, c.position, c.ahead, c.retrying,
    CASE WHEN h.head > c.position THEN (
        SELECT log.stored_at FROM log WHERE log.organization = c.organization AND log.queue = c.queue
        AND log.seq > c.position ORDER BY log.seq LIMIT 1
    ) END,
    {_OVERDUE.format("leased")}, {_OVERDUE.format("retry")}
FROM cursor c
JOIN listener l ON {by_index("l.organization", "c.organization")} AND l.id = c.listener AND l.deleted_at IS NULL
JOIN queue q ON {by_index("q.organization", "c.organization")} AND q.id = c.queue AND q.deleted_at IS NULL
JOIN organization o ON {by_index("o.id", "c.organization")} AND o.deleted_at IS NULL
JOIN queue_head h ON {by_index("h.organization", "c.organization")} AND h.queue = c.queue + 0
WHERE c.owner = $2 AND (c.organization, c.listener, c.stream) > ($3, $4, $5)
ORDER BY c.organization, c.listener, c.stream LIMIT $6"""


class PullBacklog(NamedTuple):
    """The deliveries of a pull listener that are not settled."""

    key: CursorKey
    queue: str
    """Public id."""
    listener: str
    """Public id."""
    status: Literal["enabled", "disabled"]
    """Disabled also while the organization is not active."""
    waiting: int
    """Messages that are not settled, including those in `retrying`."""
    retrying: int
    """Messages that are leased, wait for another attempt, or wait behind one in the order of a key."""
    since: int
    """When the message that has waited longest could first be leased, in milliseconds since the epoch; 0: none can."""


async def backlogs_after(tx: Transaction, after: CursorKey, limit: int, *, now: int) -> list[PullBacklog]:
    """Read a page of the backlogs of existing pull listeners, in key order. A listener may have none."""
    return [_backlog(row) for row in await tx.rows(_BACKLOGS, now, PULL_OWNER, *after, limit)]


def _backlog(row: Row) -> PullBacklog:
    organization, listener, stream, queue_id, listener_id, status, head, position, ahead, retrying, *times = row
    waiting = head - position - Window.decode(position, ahead).settled_count_beyond + retrying
    since = min((at for at in times if at is not None), default=0)
    return PullBacklog((organization, listener, stream), queue_id, listener_id, status, waiting, retrying, since)
