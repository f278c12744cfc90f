"""What happened in the control plane: a row each, and one more in the count of its kind."""

from typing import Final, Literal, NamedTuple

from discue.domain.ids import millisecond_of
from discue.store import tallies
from discue.store.engine import Transaction
from discue.store.tallies import TallyEntry

EventKind = Literal[
    "api_key_added",
    "api_key_updated",
    "api_key_deleted",
    "queue_added",
    "queue_updated",
    "queue_deleted",
    "listener_added",
    "listener_updated",
    "listener_deleted",
    "organization_added",
    "organization_updated",
    "organization_deleted",
    "domain_added",
    "domain_updated",
    "domain_deleted",
    "user_added",
    "user_updated",
    "user_deleted",
    "lockout",
    "topic_added",
    "topic_updated",
    "topic_deleted",
    "channel_added",
    "channel_updated",
    "channel_deleted",
]

_INSERT: Final = "INSERT INTO event (organization, id, kind, client, ref, name) VALUES ($1, $2, $3, $4, $5, $6)"


class Occurrence(NamedTuple):
    """A moment, as a row id made before the transaction; and the public id of the API key at work, or ""."""

    id: int
    client: str


async def record(
    tx: Transaction, occurrence: Occurrence, kind: EventKind, organization: int, ref: str, name: str
) -> None:
    """Say what happened, in the transaction that does it. An occurrence stands for one event of an organization.

    `ref` and `name` are the public id and the alias of what it happened to, as they stand afterwards.
    """
    await tx.execute(_INSERT, organization, occurrence.id, kind, occurrence.client, ref, name)
    period = tallies.period_of(millisecond_of(occurrence.id))
    await tallies.add(tx, [TallyEntry(organization, period, tallies.OF_EVENTS[kind], 1)])
