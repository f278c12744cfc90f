"""Everything that is asked of the past, and that clears it away: for the tests of query plans."""

from itertools import product
from typing import get_args

from discue.domain.ids import last_id_of
from discue.domain.model import Listener, Queue
from discue.store import events, retention, tallies
from discue.store.engine import Transaction
from discue.store.events import EventQuery, EventTopic, Occurrence
from discue.store.tallies import TallyEntry
from tests.store.rows import public_id, row_id
from tests.support.clocks import NOON


async def look_back(tx: Transaction, queue: Queue, listener: Listener) -> None:
    """Events of every choice, and counts."""
    ours = queue.organization
    await events.record(tx, Occurrence(row_id(60), ""), "queue_added", ours, ref=queue.public_id, name=queue.alias)
    only = (None, {public_id(33), listener.public_id, queue.public_id})
    for topic, chosen, oldest_first in product(get_args(EventTopic), only, (False, True)):
        choice: EventTopic = topic
        await events.find(tx, EventQuery(ours, last_id_of(NOON), 10, choice, chosen, oldest_first))
    await tallies.add(tx, [TallyEntry(ours, tallies.CURRENT, tallies.BYTES_STORED, 1)])
    await tallies.since(tx, ours, 1)
    await tallies.bytes_stored(tx, ours)
    await tallies.delete_old(tx, ours, 10, 2)
    await retention.delete_events(tx, ours, NOON)
