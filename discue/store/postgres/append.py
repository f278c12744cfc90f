"""Append on PostgreSQL: one statement for a batch, which commits by itself.

It raises the heads in the order of their keys, waiting for each that another worker is about to raise (the newest
version of its row is what counts then), and stores the entries under them.
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from discue.domain.errors import StoreUnavailable
from discue.store import tallies
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    QueueClosed,
    StaleConfiguration,
    TopicAppend,
    Value,
)
from discue.store.idempotency import ResponseGroup, encode_responses
from discue.store.message_log import WAITING, entry_of_new
from discue.store.postgres.errors import OUTAGES

# `= ANY (ARRAY[x])` is `= x` to an index, and nothing that tables could be merged by: so no plan walks all heads
# because there were few when it was made, and the heads are locked in the order in which they are given.
_RAISE: Final = """
WITH raised AS (
    UPDATE queue_head h
    SET head = h.head + (w.last - w.first + 1), last_stored_at = greatest(h.last_stored_at, w.now)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
        AS w (organization, queue, config_version, now, first, last, bytes, first_key, last_key, first_answers,
            last_answers)
    WHERE h.organization = ANY (ARRAY[w.organization]) AND h.queue = w.queue
        AND h.config_version = w.config_version AND h.closed_at IS NULL
    RETURNING h.organization, h.queue, h.last_stored_at AS stored_at, w.now, w.first, w.last, w.bytes, w.first_key,
        w.last_key, w.first_answers, w.last_answers, h.head - (w.last - w.first + 1) AS base
)"""
_STORED: Final = """, stored AS (
    INSERT INTO log (organization, queue, seq, id, stored_at, alias, expires_at, key_hash, extra, size, codec, body)
    SELECT r.organization, r.queue, r.base + e.place, e.id, r.stored_at, e.alias, e.expires_at, e.key_hash, e.extra,
        octet_length(e.body), e.codec, e.body
    FROM raised r CROSS JOIN LATERAL unnest(
        ($12::text[])[r.first:r.last], ($13::text[])[r.first:r.last], ($14::bigint[])[r.first:r.last],
        ($15::bigint[])[r.first:r.last], ($16::bytea[])[r.first:r.last], ($17::bigint[])[r.first:r.last],
        ($18::bytea[])[r.first:r.last]
    ) WITH ORDINALITY AS e (id, alias, expires_at, key_hash, extra, codec, body, place)
)"""
_COUNT: Final = f""", counted AS (
    INSERT INTO tally (organization, period, kind, slot, n)
    SELECT organization, now / {tallies.PERIOD_MS}, {tallies.MESSAGE_ADDED}, $19::bigint, sum(last - first + 1)::bigint
    FROM raised GROUP BY organization, now / {tallies.PERIOD_MS}
    UNION ALL
    SELECT organization, {tallies.CURRENT}, {tallies.BYTES_STORED}, $19::bigint, sum(bytes)::bigint
    FROM raised GROUP BY organization
    ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n
)"""
_KEEP: Final = """, kept AS (
    INSERT INTO idempotency_key (key, answers)
    SELECT k.key, k.answers FROM raised r CROSS JOIN LATERAL unnest(
        ($20::bigint[])[r.first_key:r.last_key], ($21::bigint[])[r.first_key:r.last_key]
    ) AS k (key, answers)
), answered AS (
    INSERT INTO idempotency_answers (organization, id, stored_at, size, content)
    SELECT r.organization, a.id, r.stored_at, octet_length(a.content), a.content
    FROM raised r CROSS JOIN LATERAL unnest(
        ($22::bigint[])[r.first_answers:r.last_answers], ($23::bytea[])[r.first_answers:r.last_answers]
    ) AS a (id, content)
)"""
_RAISED: Final = "\nSELECT first, base, stored_at FROM raised"
_DUE_AT: Final = "($24::bigint[])[r.first + e.place - 1]"
_STORED_LATER: Final = (
    _STORED.replace("seq, id,", "seq, kind, id,")
    .replace("e.place, e.id", f"e.place, CASE WHEN {_DUE_AT} IS NULL THEN 0 ELSE {WAITING} END, e.id")
    .replace("e.expires_at, e.key_hash,", f"e.expires_at, CASE WHEN {_DUE_AT} IS NULL THEN e.key_hash END,")
)
_SCHEDULED: Final = """, scheduled AS (
    INSERT INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash)
    SELECT r.organization, r.queue, r.base + e.place, e.due_at, octet_length(e.body), e.key_hash
    FROM raised r CROSS JOIN LATERAL unnest(
        ($15::bigint[])[r.first:r.last], ($18::bytea[])[r.first:r.last], ($24::bigint[])[r.first:r.last]
    ) WITH ORDINALITY AS e (key_hash, body, due_at, place)
    WHERE e.due_at IS NOT NULL
)"""
APPEND: Final = _RAISE + _STORED + _COUNT + _RAISED
APPEND_ONCE: Final = _RAISE + _STORED + _COUNT + _KEEP + _RAISED
"""The same, for messages of which some have idempotency keys."""
APPEND_LATER: Final = _RAISE + _STORED_LATER + _COUNT + _KEEP + _SCHEDULED + _RAISED
"""The same, for messages of which some are not due yet."""

# A subquery for a value is not made into a join: it goes by the key, however few rows there were.
KNOWN_KEYS: Final = """
SELECT k.number
FROM unnest($1::bigint[]) WITH ORDINALITY AS k (key, number)
CROSS JOIN LATERAL (SELECT FROM idempotency_key i WHERE i.key = ANY (ARRAY[k.key]) LIMIT 1) AS known
"""
CLOSED_AT: Final = "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2"

# What has body ids names bodies that are not among the rows: sizes are told.
_STORED_SHARING: Final = f""", stored AS (
    INSERT INTO log (organization, queue, seq, kind, id, stored_at, alias, expires_at, key_hash, extra, size, codec,
        body, body_id)
    SELECT r.organization, r.queue, r.base + e.place, CASE WHEN e.due_at IS NULL THEN 0 ELSE {WAITING} END, e.id,
        r.stored_at, e.alias, e.expires_at, CASE WHEN e.due_at IS NULL THEN e.key_hash END, e.extra, e.size, e.codec,
        e.body, e.body_id
    FROM raised r CROSS JOIN LATERAL unnest(
        ($12::text[])[r.first:r.last], ($13::text[])[r.first:r.last], ($14::bigint[])[r.first:r.last],
        ($15::bigint[])[r.first:r.last], ($16::bytea[])[r.first:r.last], ($17::bigint[])[r.first:r.last],
        ($18::bytea[])[r.first:r.last], ($24::bigint[])[r.first:r.last], ($25::bigint[])[r.first:r.last],
        ($26::bigint[])[r.first:r.last]
    ) WITH ORDINALITY AS e (id, alias, expires_at, key_hash, extra, codec, body, due_at, body_id, size, place)
)"""
_SCHEDULED_SHARING: Final = """, scheduled AS (
    INSERT INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash)
    SELECT r.organization, r.queue, r.base + e.place, e.due_at, e.size, e.key_hash
    FROM raised r CROSS JOIN LATERAL unnest(
        ($15::bigint[])[r.first:r.last], ($24::bigint[])[r.first:r.last], ($26::bigint[])[r.first:r.last]
    ) WITH ORDINALITY AS e (key_hash, due_at, size, place)
    WHERE e.due_at IS NOT NULL
)"""
_SHARED: Final = """, shared AS (
    INSERT INTO body (organization, id, size, uses, bytes)
    SELECT b.organization, b.id, octet_length(b.bytes), b.uses, b.bytes
    FROM unnest($27::bigint[], $28::bigint[], $29::bigint[], $30::bytea[]) AS b (organization, id, uses, bytes)
    WHERE EXISTS (SELECT FROM raised)
)"""
# Dividing by zero fails the whole statement: then nothing of it is stored.
_ALL_RAISED: Final = """
SELECT first, base, stored_at, 1 / CASE WHEN count(*) OVER () = $31::bigint AND NOT EXISTS (
    SELECT FROM unnest($32::bigint[], $33::bigint[], $34::bigint[]) AS w (organization, topic, routes_version)
    WHERE NOT EXISTS (
        SELECT FROM topic t WHERE t.organization = ANY (ARRAY[w.organization]) AND t.id = w.topic
            AND t.routes_version = w.routes_version)
) THEN 1 ELSE 0 END FROM raised"""
ROUTE: Final = _RAISE + _STORED_SHARING + _COUNT + _KEEP + _SCHEDULED_SHARING + _SHARED + _ALL_RAISED
"""The same for messages of topics: all of them, or the statement fails or finds nothing."""

_Head = tuple[int, int, int]
"""Organization, queue and the configuration version that the messages were checked against."""


_Numbered = tuple[int, Append]
"""An append with its place in the batch."""


class Rows:
    """The parameters of the statement. Entries of one head stand side by side; `places` says where each append's do.

    So do the idempotency keys of one head, which within the statement are in the order in which all workers keep them.
    """

    def __init__(self, appends: Sequence[_Numbered], tally_slot: int) -> None:
        by_head: dict[_Head, list[_Numbered]] = {}
        for number, item in appends:
            by_head.setdefault((item.organization, item.queue, item.config_version), []).append((number, item))
        self._heads: list[tuple[int, ...]] = []
        self._entries: list[tuple[Value, ...]] = []
        self._keys: list[tuple[int, int]] = []
        self._answers: list[tuple[int, bytes]] = []
        self._due_at: list[int | None] = []
        self._sharing: list[tuple[int | None, int]] = []
        self._has_later = False
        self._tally_slot = tally_slot
        self.places: dict[int, tuple[int, int]] = {}
        for head in sorted(by_head):
            self._add(head, by_head[head])

    def all_of(self, routed: Sequence[TopicAppend]) -> tuple[Any, ...]:
        """The parameters of `ROUTE`."""
        bodies = [(item.organization, body.id, body.uses, body.content) for item in routed for body in item.bodies]
        topics = sorted({(item.organization, item.topic, item.routes_version) for item in routed})
        return (
            *zip(*self._heads, strict=True),
            *zip(*self._entries, strict=True),
            self._tally_slot,
            *self._kept,
            self._due_at,
            *zip(*self._sharing, strict=True),
            *(tuple(zip(*bodies, strict=True)) or ((), (), (), ())),
            len(self._heads),
            *zip(*topics, strict=True),
        )

    def _add(self, head: _Head, appends: list[_Numbered]) -> None:
        first = len(self._entries) + 1
        for number, item in appends:
            self.places[number] = (first, len(self._entries) + 1 - first)
            for entry in item.entries:
                options = (entry.alias, entry.expires_at, entry.key_hash, entry.extra)
                body = entry.body if entry.body_id is None else None
                self._entries.append((entry.id, *options, 1 if entry.is_json else 0, body))
                self._sharing.append((entry.body_id, len(entry.body)))
                self._due_at.append(entry.due_at)
                self._has_later |= entry.due_at is not None
        now, size = max(item.now for _, item in appends), sum(item.bytes for _, item in appends)
        first_key, first_answers = len(self._keys) + 1, len(self._answers) + 1
        self._add_keys([item.once for _, item in appends if item.once is not None])
        kept = (first_key, len(self._keys), first_answers, len(self._answers))
        self._heads.append((*head, now, first, len(self._entries), size, *kept))

    def _add_keys(self, onces: list[IdempotencyRecord]) -> None:
        answers: dict[int, list[IdempotencyRecord]] = {}
        together = ResponseGroup()
        for once in onces:
            answers.setdefault(together.add(once), []).append(once)
        self._keys += sorted((once.key[0], row) for row, kept in answers.items() for once in kept)
        self._answers += [(row, encode_responses(kept)) for row, kept in answers.items()]

    @property
    def statement(self) -> str:
        if self._has_later:
            return APPEND_LATER
        return APPEND_ONCE if self._keys else APPEND

    @property
    def values(self) -> tuple[Any, ...]:
        values = (*zip(*self._heads, strict=True), *zip(*self._entries, strict=True), self._tally_slot)
        if not self._keys and not self._has_later:
            return values
        return (*values, *self._kept, self._due_at) if self._has_later else (*values, *self._kept)

    @property
    def _kept(self) -> tuple[Any, ...]:
        columns = [tuple(zip(*rows, strict=True)) or ((), ()) for rows in (self._keys, self._answers)]
        return (*columns[0], *columns[1])


async def append(
    connection: asyncpg.Connection, appends: Sequence[Append], tally_slot: int
) -> list[Appended | Exception]:
    """Durable when it returns. Appends to one queue get their numbers in the order given."""
    repeated = await repeated_in(connection, appends)
    rows = Rows([(number, item) for number, item in enumerate(appends) if number not in repeated], tally_slot)
    raised: dict[int, tuple[int, int]] = {}
    if rows.places:
        found = await connection.fetch(rows.statement, *rows.values)
        raised = {first: (base, stored_at) for first, base, stored_at in found}
    answers: list[Appended | Exception] = []
    for number, item in enumerate(appends):
        if number in repeated:
            answers.append(AlreadyDone())
            continue
        first, before = rows.places[number]
        head = raised.get(first)
        answers.append(await _refusal(connection, item) if head is None else placed(item, head[0] + before, head[1]))
    return answers


async def repeated_in(connection: asyncpg.Connection, appends: Sequence[Append | TopicAppend]) -> set[int]:
    """Which of them have an idempotency key that is kept already, or that an earlier one has.

    One that another worker keeps at this very moment is not among them: its statement fails, and it alone.
    """
    keyed = [(number, item.once.key[0]) for number, item in enumerate(appends) if item.once]
    if not keyed:
        return set()
    first: dict[int, int] = {}
    for number, key in keyed:
        first.setdefault(key, number)
    keys = list(first)
    refused = {keys[number - 1] for (number,) in await connection.fetch(KNOWN_KEYS, keys)}
    return {number for number, key in keyed if key in refused or first[key] != number}


def placed(item: Append, before: int, stored_at: int) -> Appended:
    entries = [entry_of_new(entry, seq, stored_at) for seq, entry in enumerate(item.entries, before + 1)]
    return Appended(item.organization, item.queue, tuple(entries))


async def _refusal(connection: asyncpg.Connection, item: Append) -> Exception:
    try:
        found = await connection.fetchrow(CLOSED_AT, item.organization, item.queue)
    except OUTAGES:
        # Its neighbours are stored: whatever is raised here must not make anybody store them again.
        return StoreUnavailable()
    return StaleConfiguration() if found is not None and found[0] is None else QueueClosed()


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
