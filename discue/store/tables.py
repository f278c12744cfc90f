"""The tables of an installation with their columns, and what statements and rows of several tables share."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeVar

import msgspec

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
def given_rows(rows: int, columns: int) -> str:
    """Return `VALUES (CAST($1 AS BIGINT), CAST($2 AS BIGINT)), …` for integers that a statement reads as a table."""
    # Without a type, PostgreSQL would take the parameters for texts.
    casts = [f"CAST(${number} AS BIGINT)" for number in range(1, rows * columns + 1)]
    return "VALUES " + ", ".join(
        f"({', '.join(casts[start : start + columns])})" for start in range(0, len(casts), columns)
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
    return list(dict.fromkeys(map(tuple, await repeated_rows_at(tx, sql, key, last))))


async def repeated_rows_at(tx: Transaction, sql: str, key: Sequence[int], last: Sequence[int]) -> list[Row]:
    """Read rows like `rows_at`, some of them several times."""
    found: list[Row] = []
    for start in range(0, len(last), _LISTED_AT_ONCE):
        some = at_least_two(padded(last[start : start + _LISTED_AT_ONCE], last[start]))
        given = _values_with_key(len(key), len(some))
        found += await tx.rows(sql.format(given), *key, *some)
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


def at_least_two(rows: list[T]) -> list[T]:
    """Repeat a single row: PostgreSQL would replace the columns of one given row with constants."""
    return rows * 2 if len(rows) == 1 else rows


@cache
def _values_with_key(fixed: int, count: int) -> str:
    """Return `VALUES (CAST($1 AS BIGINT), CAST($2 AS BIGINT)), (CAST($1 AS BIGINT), CAST($3 AS BIGINT))`."""
    casts = [f"CAST(${number} AS BIGINT)" for number in range(1, fixed + count + 1)]
    return "VALUES " + ", ".join(f"({', '.join([*casts[:fixed], each])})" for each in casts[fixed:])


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


def _table(name: str, key: str, others: str, bodies: str = "") -> TableSpec:
    return TableSpec(name, tuple(key.split()), tuple(others.split()), tuple(bodies.split()))


FEED_HEAD: Final = _table("feed_head", "shard", "version")
QUEUE_HEAD: Final = _table(
    "queue_head", "organization queue", "head tail last_stored_at config_version closed_at moved"
)
CURSOR: Final = _table(
    "cursor",
    "organization listener stream",
    "queue owner token version start_seq until_seq position ahead acknowledged missed retrying last_success_at "
    "last_failure_at last_new_at",
)
DELIVERY_ROW: Final = _table(
    "delivery",
    "organization listener stream seq",
    "queue state attempts due_at token sender key_hash blocked redelivered_at reason",
)
BODY: Final = _table("body", "id", "organization size uses bytes", bodies="bytes")
LOG: Final = _table(
    "log",
    "organization queue seq",
    "id stored_at updated_at kind origin_seq key_hash alias expires_at size codec body_id extra body published_at",
    bodies="extra body",
)
SCHEDULED: Final = _table("scheduled", "organization queue origin_seq", "due_at size key_hash")

TABLES: Final = (
    _table("organization", "id", "public_id alias state is_operator settings created_at updated_at deleted_at founder"),
    _table(
        "api_key",
        "organization id",
        "public_id alias secret_hash scopes status expires_at last_used_at created_at updated_at",
    ),
    _table(
        "queue",
        "organization id",
        "public_id alias customer ordered settings schema config_version created_at updated_at deleted_at schema_id "
        "is_system",
    ),
    _table(
        "listener",
        "organization id",
        "public_id queue alias mode status notify_url liveness_url settings secrets config_version created_at "
        "updated_at deleted_at disabled_by status_changed_at customer",
    ),
    _table(
        "organization_user",
        "organization id",
        "public_id email email_key display_name role password_hash invitation_hash invitation_expires_at created_at "
        "updated_at status has_identity",
    ),
    _table(
        "domain",
        "organization id",
        "public_id alias hostname host_key port context_path file_name file_content challenge_created_at "
        "challenge_expires_at verified verified_at failures failed_since last_error tried_at checked_at due_at "
        "config_version created_at updated_at",
    ),
    _table("topic", "organization id", "public_id alias routes_version created_at updated_at"),
    _table("channel", "organization id", "public_id topic queue alias pattern filter created_at updated_at"),
    _table(
        "session",
        "organization id",
        "public_id token_hash user_id role state method provider address user_agent created_at last_seen_at idle_at "
        "expires_at",
    ),
    _table("sign_in_code", "organization id", "code_hash user_id role expires_at"),
    _table(
        "second_factor",
        "organization id",
        "secrets confirmed_at last_step recovery_codes failed_codes refused_until",
    ),
    _table("user_identity", "organization id", "user_id issuer subject created_at"),
    _table("portal", "organization", "frame_ancestors updated_at"),
    _table("portal_theme", "organization id", "content"),
    _table(
        "portal_session",
        "organization id",
        "public_id customer code_hash token_hash spec created_at opened_at expires_at theme",
    ),
    _table("lockout", "subject", "kind name address failed_at locks locked_until updated_at"),
    QUEUE_HEAD,
    CURSOR,
    _table(
        "liveness",
        "organization listener",
        "url_hash config_version state success_count failure_count last_success_at last_failure_at last_failure_status "
        "last_failure_msg in_a_row changed_at failed_at failing_since swept_through sweep_until",
    ),
    DELIVERY_ROW,
    _table("missed_range", "organization listener seq_from", "queue seq_to reason missed_at"),
    _table(
        "missed_report",
        "organization listener",
        "n attempts_used_up expired final_status no_retry too_old since due_at",
    ),
    _table("job", "organization id", "listener kind spec progress state"),
    _table(
        "redelivery",
        "organization id",
        "public_id listener state spec pace position until_seq selected redelivered gone created_at updated_at "
        "ended_at",
    ),
    _table(
        "replay",
        "organization id",
        "public_id listener state spec pace from_seq until_seq position selected delivered failed expired filtered "
        "retrying created_at updated_at ended_at",
    ),
    FEED_HEAD,
    _table("feed", "shard version", "kind organization ref"),
    _table("tally", "organization period kind slot", "n"),
    _table("listener_tally", "organization listener period", "acknowledged failed missed"),
    _table("event", "organization id", "kind client ref name user_id changes"),
    _table("idempotency_key", "key", "response"),
    _table("idempotency_response", "organization id", "stored_at size content", bodies="content"),
    BODY,
    LOG,
    SCHEDULED,
    _table(
        "schedule",
        "organization id",
        "public_id queue alias status settings codec size body config_version next_run_at last_run created_at "
        "updated_at",
        bodies="body",
    ),
    _table("attempt", "organization id", "listener queue seq number status error took_ms detail replay"),
    _table("attempt_detail", "organization id", "listener size content", bodies="content"),
)
"""All tables but those of the database itself (`meta`), its workers (`worker`, `replay_slot`) and the current minute
(`allowance`).

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
