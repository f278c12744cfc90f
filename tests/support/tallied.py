"""Tallies compared with the rows they count: the two must always agree."""

from discue.store import tallies
from discue.store.engine import Transaction

Counts = dict[tuple[int, int], int]
"""Counts by organization and kind, without zeros."""

_TALLIED = "SELECT organization, kind, CAST(sum(n) AS BIGINT) FROM tally GROUP BY organization, kind"
# A delayed message has had two positions in its log. System events are not counted.
_PUBLISHED = """
    SELECT h.organization, CAST(sum(h.head - h.moved) AS BIGINT) FROM queue_head h WHERE NOT EXISTS (
        SELECT 1 FROM queue q WHERE q.organization = h.organization AND q.id = h.queue AND q.is_system = 1)
    GROUP BY h.organization"""
_ATTEMPTS = "SELECT organization, count(*) FROM attempt WHERE error {} '' GROUP BY organization"
_OF_SCHEDULES = """
    SELECT s.organization, CAST(sum(s.size) AS BIGINT) FROM schedule s
    JOIN queue q ON q.organization = s.organization AND q.id = s.queue
    WHERE q.deleted_at IS NULL GROUP BY s.organization"""
_THERE = {
    tallies.MESSAGE_ADDED: _PUBLISHED,
    tallies.SCHEDULE_BYTES: _OF_SCHEDULES,
    tallies.BYTES_STORED: "SELECT organization, CAST(sum(size) AS BIGINT) FROM log GROUP BY organization",
    tallies.RESPONSE_BYTES: """
        SELECT organization, CAST(sum(size) AS BIGINT) FROM idempotency_response GROUP BY organization""",
    tallies.MESSAGE_PUBLISHED_OK: _ATTEMPTS.format("="),
    tallies.MESSAGE_PUBLISHED_NOT_OK: _ATTEMPTS.format("<>"),
}

_EXACT = (tallies.BYTES_STORED, tallies.SCHEDULE_BYTES, tallies.RESPONSE_BYTES)


async def tallied(tx: Transaction) -> Counts:
    """Return the tallies of messages and attempts."""
    rows = await tx.rows(_TALLIED)
    return {(organization, kind): n for organization, kind, n in rows if n and kind in _THERE}


async def there(tx: Transaction) -> Counts:
    """Count the rows. Equal to the tallies as long as no queue, listener or attempt was removed."""
    found = {}
    for kind, sql in _THERE.items():
        for organization, n in await tx.rows(sql):
            if n:
                found[organization, kind] = n
    return found


async def drift(tx: Transaction) -> dict[str, int]:
    """By how much counts and rows differ, where they may not, also when queues, listeners and attempts were removed."""
    counted, real = await tallied(tx), await there(tx)
    found = {}
    for organization, kind in sorted({*counted, *real}):
        difference = counted.get((organization, kind), 0) - real.get((organization, kind), 0)
        if difference < 0 or (difference and kind in _EXACT):
            found[f"kind {kind} of organization {organization}"] = difference
    return found
