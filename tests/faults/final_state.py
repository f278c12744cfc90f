"""The content of the store at the end: every log, and the counts of the remaining listeners."""

from collections.abc import Iterable, Iterator

from discue.domain.headers import SCHEDULE_HEADER, SCHEDULED_AT_HEADER
from discue.domain.messages import decode_options
from discue.server.installation import Machine
from discue.store import listeners
from discue.store.engine import Row, Transaction
from tests.faults.history import Counts, History, Log, Recorded, ReplayCounts, Run
from tests.faults.logs import read_from

_LISTENERS = "SELECT public_id, organization FROM listener WHERE deleted_at IS NULL"
_LOGS = """
SELECT q.public_id, q.organization, q.id, h.head
FROM queue q JOIN queue_head h ON h.organization = q.organization AND h.queue = q.id
WHERE q.deleted_at IS NULL AND q.is_system = 0
"""
_REPLAYS = "SELECT public_id, state, delivered, failed, expired FROM replay"
_ATTEMPTS = """
SELECT li.public_id, lo.id, a.number, r.public_id
FROM listener li JOIN attempt a ON a.organization = li.organization AND a.listener = li.id
JOIN log lo ON lo.organization = a.organization AND lo.queue = a.queue AND lo.seq = a.seq
LEFT JOIN replay r ON r.organization = a.organization AND r.id = a.replay
WHERE li.deleted_at IS NULL AND (a.replay IS NULL OR r.id IS NOT NULL)
"""
_IDS = "SELECT id, expires_at, origin_seq, extra FROM log WHERE organization = $1 AND queue = $2 ORDER BY seq"


async def read_final_state(database: str, history: History, machine: Machine | None = None) -> None:
    """Write what stopped servers have stored into the history.

    Whatever was killed, what is counted is what there is.
    """

    async def read(tx: Transaction) -> None:
        counts = await _counts(tx)
        known = {name: counts.get(listener.id) for name, listener in history.listeners.items()}
        history.counts = {name: each for name, each in known.items() if each is not None}
        for pulling in history.pulling:
            pulling.counts = counts.get(pulling.id)
        names = {listener.id: name for name, listener in history.listeners.items() if listener.id in counts}
        history.recorded = [
            Recorded(names[listener], message, number, replay or "")
            for listener, message, number, replay in await tx.rows(_ATTEMPTS)
            if listener in names
        ]
        history.replay_counts = {row[0]: ReplayCounts(*row[1:]) for row in await tx.rows(_REPLAYS)}
        for public_id, organization, queue, head in await tx.rows(_LOGS):
            rows = await tx.rows(_IDS, organization, queue)
            expiries = {row[0]: row[1] / 1_000 for row in rows if row[1]}
            moved = sum(row[2] is not None for row in rows)
            history.logs[public_id] = Log(head, tuple(row[0] for row in rows), expiries, moved, list(_runs(rows)))

    await read_from(database, read, machine)


def _runs(rows: Iterable[Row]) -> Iterator[Run]:
    for _, _, _, extra in rows:
        headers = dict(decode_options(extra).headers)
        if SCHEDULE_HEADER in headers:
            yield Run(headers[SCHEDULE_HEADER], int(headers[SCHEDULED_AT_HEADER]))


async def _counts(tx: Transaction) -> dict[str, Counts]:
    """Return the counts of each listener by its id, as the API shows them."""
    found = {}
    for public_id, organization in await tx.rows(_LISTENERS):
        stored = await listeners.get_with_facts(tx, organization, public_id)
        if stored is not None:
            counted = stored[1].counts
            found[public_id] = Counts(counted.acknowledged, counted.pending, counted.missed, stored[1].start_seq)
    return found
