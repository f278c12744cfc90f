"""The intake: messages that applications have published in their own transactions, and which wait for their log.

The table exists on PostgreSQL only, where the function `discue_publish` fills it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from itertools import takewhile
from typing import Final

import msgspec

from discue.domain.quotas import NO_QUOTAS, PublishUsage, Quotas
from discue.store import organizations
from discue.store.direct_appends import PublishBudget, append_directly
from discue.store.engine import NewEntry, QueueKey, Transaction
from discue.store.tables import read_number, rows_among, within_bytes

ROWS_A_STEP: Final = 500
BYTES_A_STEP: Final = 1 << 20
QUEUES_A_TURN: Final = 8
"""How many queues of an organization have a step before those of the next organization."""

# A step from one organization or queue to the next: the index has an entry for each row.
_ORGANIZATIONS: Final = """
    WITH RECURSIVE found (organization) AS (
        (SELECT organization FROM intake WHERE error IS NULL ORDER BY organization, queue, id LIMIT 1)
        UNION ALL
        SELECT next.organization FROM found CROSS JOIN LATERAL (
            SELECT i.organization FROM intake i WHERE i.error IS NULL AND i.organization > found.organization
            ORDER BY i.organization, i.queue, i.id LIMIT 1
        ) AS next
    )
    SELECT organization FROM found"""
_QUEUES: Final = """
    WITH RECURSIVE found (queue) AS (
        (
            SELECT queue FROM intake WHERE error IS NULL AND organization = $1 AND queue > $2
            ORDER BY organization, queue, id LIMIT 1
        )
        UNION ALL
        SELECT next.queue FROM found CROSS JOIN LATERAL (
            SELECT i.queue FROM intake i WHERE i.error IS NULL AND i.organization = $1 AND i.queue > found.queue
            ORDER BY i.organization, i.queue, i.id LIMIT 1
        ) AS next
    )
    SELECT f.queue, q.public_id FROM (SELECT queue FROM found LIMIT $3) AS f
    LEFT JOIN queue q ON q.organization = $1 AND q.id = f.queue"""
_SIZES: Final = """
    SELECT id, size FROM intake WHERE organization = $1 AND queue = $2 AND error IS NULL ORDER BY id LIMIT $3"""
# A part of the index. For a list of ids, PostgreSQL can choose to look through all messages of the queue.
_ROWS: Final = """
    SELECT id, options, body FROM intake
    WHERE organization = $1 AND queue = $2 AND error IS NULL AND id BETWEEN $3 AND $4 ORDER BY id"""
# Each part has an index of its own.
_OLDEST_WITH_KEY: Final = " UNION ALL ".join(
    f"""
    (SELECT id, options::json ->> 'key' = $5 FROM intake
    WHERE organization = $1 AND queue = $2 AND error {given} AND id > $3 AND id <= $4 ORDER BY id LIMIT $6)"""
    for given in ("IS NULL", "IS NOT NULL")
)
_LAST: Final = """
    SELECT id FROM intake WHERE organization = $1 AND queue = $2 AND error {} ORDER BY id DESC LIMIT 1"""
_REFUSE: Final = "UPDATE intake SET error = $1 WHERE id = $2 AND error IS NULL"
_HEAD: Final = "SELECT config_version, closed_at FROM queue_head WHERE organization = $1 AND queue = $2"
_STORE_LIMIT: Final = """
    INSERT INTO meta (key, value) VALUES ('max_message_bytes', $1)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value"""


class WaitingQueue(msgspec.Struct, frozen=True):
    """A queue with messages in the intake."""

    key: QueueKey
    public_id: str | None
    """None if the queue was purged."""


class IntakeRow(msgspec.Struct, frozen=True):
    """A message in the intake."""

    id: int
    options: str
    """JSON."""
    body: bytes
    """JSON."""


class IntakeStep(msgspec.Struct, frozen=True):
    """The oldest messages of a queue in the intake, which are moved in one transaction."""

    queue: QueueKey
    config_version: int
    """The messages were checked against the queue's configuration of this version."""
    ids: tuple[int, ...]
    """The rows that become `entries`."""
    entries: tuple[NewEntry, ...]
    refused: Mapping[int, str]
    """The rows that the queue does not accept, with the reason."""
    event_ids: tuple[int, int]
    """Row ids for the system event of each publishing quota."""


class StepOutcome(Enum):
    """How a step ended."""

    MOVED = auto()
    """All entries are in the log."""
    OVER_QUOTA = auto()
    """The organization may not publish the entries that were not moved. They wait."""
    QUEUE_DELETED = auto()
    """The queue is deleted, and its messages with it."""
    STALE = auto()
    """The queue has changed since its messages were checked. Nothing was changed."""


class StepResult(msgspec.Struct, frozen=True):
    """The outcome of a step, and what it moved."""

    outcome: StepOutcome
    moved: int = 0
    """How many of its entries are in the log now: the first ones."""


class MovedByAnother(Exception):
    """Another worker has moved some of the rows. Nothing was changed."""


async def waiting_organizations(tx: Transaction) -> list[int]:
    """Return the organizations with messages in the intake."""
    return [row[0] for row in await tx.rows(_ORGANIZATIONS)]


async def waiting_queues(tx: Transaction, organization: int, after: int = 0) -> list[WaitingQueue]:
    """Return queues of an organization with messages in the intake, as many as have a turn, by their ids.

    The first one is the next one after the queue `after`, or the very first one if there is none.
    """
    rows = await tx.rows(_QUEUES, organization, after, QUEUES_A_TURN)
    if not rows and after:
        rows = await tx.rows(_QUEUES, organization, 0, QUEUES_A_TURN)
    return [WaitingQueue((organization, row[0]), row[1]) for row in rows]


async def oldest(tx: Transaction, queue: QueueKey) -> list[IntakeRow]:
    """Read the oldest messages of a queue: as many as one step handles."""
    found = within_bytes(await tx.rows(_SIZES, *queue, ROWS_A_STEP), BYTES_A_STEP)
    if not found:
        return []
    # Between the two statements, others may have become visible.
    ids = {row[0] for row in found}
    rows = await tx.rows(_ROWS, *queue, found[0][0], found[-1][0])
    return [IntakeRow(*row) for row in rows if row[0] in ids]


async def move(tx: Transaction, step: IntakeStep, now: int, defaults: Quotas = NO_QUOTAS) -> StepResult:
    """Append messages to their log and delete them from the intake, both or neither. Messages beyond a quota wait.

    Call this in an exclusive transaction: of several workers that try, one succeeds, and the others get
    MovedByAnother. `defaults` are the quotas of organizations without their own.
    """
    state = await tx.row(_HEAD, *step.queue)
    if state is None or state[1] is not None:
        # Messages of a deleted queue are deleted with it.
        await _delete(tx, (*step.ids, *step.refused))
        return StepResult(StepOutcome.QUEUE_DELETED)
    if state[0] != step.config_version:
        return StepResult(StepOutcome.STALE)
    for row_id, error in step.refused.items():
        await tx.execute(_REFUSE, error, row_id)
    owner = await organizations.get(tx, step.queue[0])
    budget = None if owner is None else await PublishBudget.of(tx, owner, now, defaults)
    if budget is None or not budget.is_active:
        return StepResult(StepOutcome.OVER_QUOTA)
    fitting = sum(1 for _ in takewhile(lambda entry: budget.take(PublishUsage(1, entry.size)), step.entries))
    if await _delete(tx, step.ids[:fitting]) != fitting:
        raise MovedByAnother
    if fitting and await append_directly(tx, step.queue, step.entries[:fitting], now):
        await budget.report(tx, now, step.event_ids)
    return StepResult(StepOutcome.MOVED if fitting == len(step.entries) else StepOutcome.OVER_QUOTA, fitting)


async def last_id(tx: Transaction, queue: QueueKey) -> int:
    """Return the highest id among the messages of a queue, waiting and refused ones; 0 if there is none."""
    if not tx.has_intake:
        return 0
    return max([await read_number(tx, _LAST.format(given), *queue) for given in ("IS NULL", "IS NOT NULL")])


async def erase(tx: Transaction, queue: QueueKey, key: str, *, after: int, last: int) -> tuple[int, int]:
    """Delete the messages with this key among the next ones of a queue, waiting and refused ones, up to the id `last`.

    Returns how many were deleted, and the id up to which all are: `last` at the end.
    """
    rows = sorted(await tx.rows(_OLDEST_WITH_KEY, *queue, after, last, key, ROWS_A_STEP))[:ROWS_A_STEP]
    deleted = await _delete(tx, [row_id for row_id, has_key in rows if has_key])
    return deleted, rows[-1][0] if len(rows) == ROWS_A_STEP else last


async def store_limit(tx: Transaction, max_message_bytes: int) -> None:
    """Store the size limit of queues without their own, which the function reads."""
    await tx.execute(_STORE_LIMIT, str(max_message_bytes))


async def _delete(tx: Transaction, ids: Sequence[int]) -> int:
    return len(await rows_among(tx, "DELETE FROM intake WHERE id IN ({}) RETURNING id", (), ids))
