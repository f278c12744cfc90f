"""Messages of topics on PostgreSQL: one statement for a batch, which stores all of it or fails."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from discue.store.engine import AlreadyDone, Appended, StaleConfiguration, TopicAppend
from discue.store.postgres.append import ROUTE, Rows, placed, repeated_in


class OneIsStale(Exception):
    """Of several, at least one is not as it was: nothing is stored."""


_NOTHING: Final[tuple[()]] = ()


async def route(
    connection: asyncpg.Connection, routed: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    """Durable when it returns. Raises OneIsStale of several: each has to be tried alone then."""
    repeated = await repeated_in(connection, routed)
    fresh = [item for number, item in enumerate(routed) if number not in repeated]
    stored = iter(await _store(connection, fresh, tally_slot) if fresh else _NOTHING)
    return [AlreadyDone() if number in repeated else next(stored) for number in range(len(routed))]


async def _store(
    connection: asyncpg.Connection, routed: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    appends = list(enumerate([each for item in routed for each in item.appends]))
    rows = Rows(appends, tally_slot)
    try:
        found = await connection.fetch(ROUTE, *rows.all_of(routed))
    except asyncpg.DivisionByZeroError:
        found = []
    if not found:
        if len(routed) > 1:
            raise OneIsStale
        return [StaleConfiguration()]
    raised = {first: (base, stored_at) for first, base, stored_at, _ in found}
    answers = []
    for number, item in appends:
        first, before = rows.places[number]
        base, stored_at = raised[first]
        answers.append(placed(item, base + before, stored_at))
    each = iter(answers)
    return [tuple(next(each) for _ in item.appends) for item in routed]
