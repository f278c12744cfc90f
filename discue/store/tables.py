"""The tables of an installation with their columns, and what statements and rows of several tables share."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec

from discue.domain.errors import StoreUnusable
from discue.store.engine import Row, Transaction, Value

T = TypeVar("T")

_LARGEST_CHUNK = 64
_LISTED_AT_ONCE = 128
_DELETED_AT_ONCE = 500
_PARAMETER: Final = re.compile(r"\$(\d+)")


def chunks(rows: Sequence[T], largest: int = _LARGEST_CHUNK) -> Iterator[Sequence[T]]:
    """Split the rows into runs whose lengths are powers of two, so that few statements are prepared.

    Each execution releases the interpreter lock, and on a busy event loop, getting it back can take half a millisecond:
    so one execution handles many rows.
    """
    start = 0
    while remaining := len(rows) - start:
        length = min(1 << (remaining.bit_length() - 1), largest)
        yield rows[start : start + length]
        start += length


@cache
def value_rows(rows: int, columns: int) -> str:
    """Return `($1, $2), ($3, $4)` for two rows of two columns."""
    return ", ".join(
        "(" + ", ".join(f"${row * columns + column + 1}" for column in range(columns)) + ")" for row in range(rows)
    )


def statement_of_rows(text: Callable[[str], str], columns: int) -> Callable[[int], str]:
    """Return a function that returns the statement for a number of rows. `text` inserts the placeholders."""

    @cache
    def of(rows: int) -> str:
        return text(value_rows(rows, columns))

    return of


def prefixed(table: str, columns: str) -> str:
    """Return columns as a join names them: `j.a, j.b` for the table `j` and `a, b`."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


def padded(rows: Sequence[T], other: T) -> list[T]:
    """Add copies of another row up to a power of two, so that few statements are prepared."""
    return [*rows, *[other] * ((1 << (len(rows) - 1).bit_length()) - len(rows))]


@cache
def given_rows(rows: int, columns: int, *, key: int = 0) -> str:
    """Return `VALUES (CAST($1 AS BIGINT), CAST($2 AS BIGINT)), …` for integers that a statement reads as a table.

    The first `key` parameters begin each row.
    """
    # Without a type, PostgreSQL would take the parameters for texts.
    casts = [f"CAST(${number} AS BIGINT)" for number in range(1, key + rows * columns + 1)]
    return "VALUES " + ", ".join(
        f"({', '.join([*casts[:key], *casts[start : start + columns]])})" for start in range(key, len(casts), columns)
    )


@lru_cache(256)
def placeholders(first: int, count: int) -> str:
    """Return `$3, $4, $5` for an IN list."""
    return ", ".join(f"${number}" for number in range(first, first + count))


def shifted(sql: str, by: int) -> str:
    """Return a statement with higher numbers of its parameters, to be a part of a larger one."""
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", sql)


def within_bytes(rows: Sequence[Row], limit: int) -> Sequence[Row]:
    """Return the first rows, at least one, whose bodies fit into some bytes. A row ends with the size of its body."""
    total = 0
    for number, row in enumerate(rows):
        total += row[-1]
        # The first row always fits: otherwise one large row would stop every step after it.
        if number and total > limit:
            return rows[:number]
    return rows


async def rows_among(
    tx: Transaction, sql: str, values: Sequence[Value], among: Sequence[Value], *, at_once: int = _LISTED_AT_ONCE
) -> list[Row]:
    """Read the rows of a statement whose `{}` is a list of any length, with parameters after those of `values`."""
    found: list[Row] = []
    for start in range(0, len(among), at_once):
        some = padded(among[start : start + at_once], among[start])
        found += await tx.rows(sql.format(placeholders(len(values) + 1, len(some))), *values, *some)
    return found


async def rows_at(tx: Transaction, sql: str, key: Sequence[int], last: Sequence[int]) -> list[Row]:
    """Read the rows of a statement that joins `({}) AS given` by `at_given`: a key, and any number of its last parts.

    With a condition such as `listener = $1 AND seq IN ($2, $3)`, the planner of a server may read all rows of the
    listener and compare each with all seqs, because it does not know which listeners have many.

    The statement must select a column that no index has together with the key: otherwise a planner may read the whole
    index.
    """
    return list(dict.fromkeys(map(tuple, await rows_given(tx, sql, key, [(each,) for each in last]))))


async def rows_given(
    tx: Transaction, sql: str, key: Sequence[int], rows: Sequence[Sequence[int]], *, at_once: int = _LISTED_AT_ONCE
) -> list[Row]:
    """Read rows like `rows_at` for any number of given rows after the key, some of them several times."""
    found: list[Row] = []
    for start in range(0, len(rows), at_once):
        some = padded(rows[start : start + at_once], rows[start])
        if len(some) == 1:
            # PostgreSQL would replace the columns of one given row with constants.
            some *= 2
        given = given_rows(len(some), len(some[0]), key=len(key))
        found += await tx.rows(sql.format(given), *key, *chain.from_iterable(some))
    return found


def at_given(row: str) -> str:
    """Return the condition that joins `given` with rows of a cursor, by their whole key."""
    return f"""{by_index(f"{row}.organization", "given.column1")}
    AND {row}.listener = given.column2 AND {row}.stream = given.column3 AND {row}.seq = given.column4"""


def by_index(column: str, value: str) -> str:
    """Return the condition that the first column of a key equals a column of another table, which has the whole key.

    If a planner takes a table to be tiny, all plans cost the same to it. It may choose one that reads all rows of the
    organization for each given row, and keep it while the table grows, until the server analyses the table. PostgreSQL
    gets this condition as `= ANY (ARRAY[value])` from `on_server`, which cannot be replaced by a constant and is none
    for a merge join: only the whole key is left. To SQLite, `==` is `=`.
    """
    return f"{column} == {value}"


_BY_INDEX: Final = re.compile(r"== ([a-z_0-9.]+)")


@lru_cache(1_024)
def on_server(sql: str) -> str:
    """Return a statement as PostgreSQL gets it."""
    return _BY_INDEX.sub(r"= ANY (ARRAY[\1])", sql)


def row_reader(struct: Callable[..., T], fields: str, **decoders: Callable[[Any], object]) -> Callable[[Row], T]:
    """Return a function that makes a struct of a row of these fields. A decoder converts a column to its field."""
    names = fields.split(", ")

    def read(row: Row) -> T:
        values = dict(zip(names, row, strict=True))
        for name, decode in decoders.items():
            values[name] = decode(values[name])
        return struct(**values)

    return read


async def read_one(tx: Transaction, read: Callable[[Row], T], sql: str, *values: Value) -> T | None:
    """Read the first row as `read` converts it; None if there is no row."""
    row = await tx.row(sql, *values)
    return read(row) if row is not None else None


async def read_number(tx: Transaction, sql: str, *values: Value) -> int:
    """Read the number in the first row; 0 if there is no row."""
    row = await tx.row(sql, *values)
    return int(row[0]) if row is not None else 0


async def delete_oldest(tx: Transaction, table: str, key: str, age: str, *, kept: int) -> int:
    """Delete some of the oldest rows of a table beyond a number, and return how many. `age` must have an index."""
    sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY {age} DESC LIMIT $1 OFFSET $2)"
    return await tx.execute(sql, _DELETED_AT_ONCE, kept)


async def delete_older(tx: Transaction, table: str, key: str, age: str, *, before: int, most: int) -> int:
    """Delete the oldest rows of a table whose `age`, which must have an index, is below a value. Returns how many."""
    sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {age} < $1 ORDER BY {age} LIMIT $2)"
    return await tx.execute(sql, before, most)


Key = tuple[int, ...]
"""The key of a row; the empty one is before all of them."""


class TableSpec(msgspec.Struct, frozen=True):
    """A table. Its primary key consists of integers."""

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...]
    bodies: tuple[str, ...] = ()
    """The columns that can make a row large. The column `size` has their size."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.others

    @property
    def narrow(self) -> tuple[str, ...]:
        """The columns that make up at most a few hundred bytes of a row."""
        return tuple(column for column in self.columns if column not in self.bodies)


_CREATE: Final = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN: Final = re.compile(r"^    ([a-z_]+) ", re.MULTILINE)
_PRIMARY_KEY: Final = re.compile(r"PRIMARY KEY \((.*?)\)")
_BODIES: Final = {
    "attempt_detail": ("content",),
    "body": ("bytes",),
    "idempotency_response": ("content",),
    "log": ("extra", "body"),
    "schedule": ("body",),
}


def _read_schema() -> dict[str, TableSpec]:
    """Read the tables of the schema by name. Without a separate `PRIMARY KEY` line, the key is the first column."""
    found = {}
    schema = resources.files("discue.store.migrations").joinpath("0001_schema.sql").read_text("utf-8")
    for name, text in _CREATE.findall(schema):
        columns, declared = _COLUMN.findall(text), _PRIMARY_KEY.search(text)
        key = declared[1].split(", ") if declared is not None else columns[:1]
        others = tuple(column for column in columns if column not in key)
        found[name] = TableSpec(name, tuple(key), others, _BODIES.get(name, ()))
    return found


_SPECS: Final = _read_schema()

FEED_HEAD: Final = _SPECS["feed_head"]
CURSOR: Final = _SPECS["cursor"]
DELIVERY_ROW: Final = _SPECS["delivery"]
LOG: Final = _SPECS["log"]
SCHEDULED: Final = _SPECS["scheduled"]
ERASED_MESSAGE: Final = _SPECS["erased_message"]

_COPIED: Final = (
    "organization, api_key, queue, listener, organization_user, domain, topic, channel, source, event_type, session, "
    "sign_in_code, second_factor, user_identity, portal, portal_theme, portal_session, lockout, queue_head, cursor, "
    "liveness, delivery, missed_range, missed_cause, missed_report, job, redelivery, replay, erasure, erased_message, "
    "feed_head, feed, tally, listener_tally, listener_history, event, idempotency_key, idempotency_response, body, "
    "log, scheduled, schedule, attempt, attempt_detail"
)
TABLES: Final = tuple(_SPECS[name] for name in _COPIED.split(", "))
"""All tables except those of the database itself (`meta`), its workers (`worker`, `replay_slot`), the intake and the
current minute (`allowance`).

They are copied in this order: large ones last.
"""


async def rows_after(tx: Transaction, table: TableSpec, columns: Sequence[str], after: Key, *, limit: int) -> list[Row]:
    """Read the first rows after a key, in key order."""
    return [tuple(row) for row in await tx.rows(select(table, columns, is_first=not after), *after, limit)]


async def insert_rows(tx: Transaction, table: TableSpec, rows: Sequence[Row]) -> None:
    """Insert rows with all columns, in the order of `TableSpec.columns`."""
    for chunk in chunks(rows):
        values = value_rows(len(chunk), len(table.columns))
        sql = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES {values}"
        await tx.execute(sql, *[value for row in chunk for value in row])


@cache
def select(table: TableSpec, columns: Sequence[str], *, is_first: bool) -> str:
    """Return the statement of `rows_after`; without a key to start after if it `is_first`."""
    key = ", ".join(table.key)
    parameters = ", ".join(f"${number}" for number in range(1, len(table.key) + 1))
    # Row values compare by the whole key: the statement continues after the last row, by the primary key.
    where, limit = ("", 1) if is_first else (f"WHERE ({key}) > ({parameters}) ", len(table.key) + 1)
    return f"SELECT {', '.join(columns)} FROM {table.name} {where}ORDER BY {key} LIMIT ${limit}"


async def meta(tx: Transaction, key: str) -> str:
    """Return the value of a key in the table `meta`; "" if the key is missing."""
    row = await tx.row("SELECT value FROM meta WHERE key = $1", key)
    return row[0] if row else ""


async def require_copied(tx: Transaction, name: str) -> None:
    """Raise StoreUnusable if the database is the target of an unfinished copy."""
    if await meta(tx, "copy"):
        raise StoreUnusable(
            f"A copy into {name} is not finished. Run the same `discue copy` again, or name another database."
        )
