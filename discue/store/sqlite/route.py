"""Messages of topics on SQLite: the only writer looks first whether all is as it was, and appends what can be."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import apsw

from discue.store.engine import AlreadyDone, Appended, StaleConfiguration, TopicAppend, Value
from discue.store.sqlite.append import append
from discue.store.sqlite.once import repeated_in
from discue.store.tables import chunks, statement_of_rows

_TOPICS = statement_of_rows(
    lambda values: (
        "SELECT organization, id, routes_version FROM topic "
        f"WHERE (organization, id, routes_version) IN (VALUES {values})"
    ),
    columns=3,
)
_QUEUES = statement_of_rows(
    lambda values: (
        "SELECT organization, queue, config_version FROM queue_head "
        f"WHERE (organization, queue, config_version) IN (VALUES {values}) AND closed_at IS NULL"
    ),
    columns=3,
)
_INSERT_BODIES = statement_of_rows(
    lambda values: f"INSERT OR FAIL INTO body (organization, id, size, uses, bytes) VALUES {values}", columns=5
)

_Version = tuple[int, int, int]
"""Organization, topic or queue, and the version of what was known of it."""


def route(
    connection: apsw.Connection, routed: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    """Must run inside a write transaction."""
    if not routed:
        return []
    refusals = _refusals(connection, routed)
    fitting = [item for number, item in enumerate(routed) if number not in refusals]
    bodies: list[tuple[Value, ...]] = [
        (item.organization, body.id, len(body.content), body.uses, body.content)
        for item in fitting
        for body in item.bodies
    ]
    for chunk in chunks(bodies):
        connection.execute(_INSERT_BODIES(len(chunk)), [value for row in chunk for value in row])
    # All of them fit: nothing else writes meanwhile.
    appended = iter(append(connection, [each for item in fitting for each in item.appends], tally_slot))
    return [
        refusals[number] if number in refusals else tuple(cast("Appended", next(appended)) for _ in item.appends)
        for number, item in enumerate(routed)
    ]


def _refusals(connection: apsw.Connection, routed: Sequence[TopicAppend]) -> dict[int, Exception]:
    refusals: dict[int, Exception] = {number: AlreadyDone() for number in repeated_in(connection, routed)}
    topics = _found(connection, _TOPICS, (_topic_of(item) for item in routed))
    queues = _found(connection, _QUEUES, (queue for item in routed for queue in _queues_of(item)))
    for number, item in enumerate(routed):
        if _topic_of(item) not in topics or not queues.issuperset(_queues_of(item)):
            refusals.setdefault(number, StaleConfiguration())
    return refusals


def _found(connection: apsw.Connection, text: Callable[[int], str], wanted: Iterable[_Version]) -> set[_Version]:
    found: set[_Version] = set()
    for chunk in chunks(sorted(set(wanted))):
        found.update(connection.execute(text(len(chunk)), [value for key in chunk for value in key]))
    return found


def _topic_of(item: TopicAppend) -> _Version:
    return item.organization, item.topic, item.routes_version


def _queues_of(item: TopicAppend) -> list[_Version]:
    return [(each.organization, each.queue, each.config_version) for each in item.appends]
