"""An organization in which everything is large, made by the database itself on either engine.

Its rows are copies of a few that the product made, with ids that lie in their past. They have never been analysed, as
after a sudden growth: the plans of the statements must not depend on statistics.

Half of all messages are in one queue, which a tenth of all listeners have. The others are spread over the other queues.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from discue.domain.model import MISSED_REASONS
from discue.store.tables import TABLES
from discue.store.tallies import PERIOD_MS

KEYED_OF = 10
"""One in so many messages of the large queue has the key of the first."""
OPEN_MESSAGES = 6
"""The messages of the large queue that the product made: the first has a key, the others have none."""

_QUEUES_AT_ONCE = 100
_ROWS_AT_ONCE = 100_000
_ONE_MILLISECOND = 1 << 22
"""Between ids of rows."""
_MESSAGE_MS = 100
_EVENT_MS = 500
_PERIODS_A_DAY = 288
_TALLY_KINDS = 4
_TALLY_SLOTS = 8
_TALLIED_LISTENERS = 200
_SPECS = {table.name: table for table in TABLES}


class Models(msgspec.Struct, frozen=True):
    """The public ids of what is copied: a queue with its messages, and listeners of this queue."""

    queue: str
    listener: str
    """An enabled one, which has settled everything."""
    disabled: str
    """The one for which everything waits."""
    missing: str
    """The one that has missed most of its messages."""


class Population(msgspec.Struct, frozen=True):
    """How many there are of each. `missed` deliveries are missed, all together."""

    models: Models
    queues: int
    listeners: int
    messages: int
    missed: int

    @property
    def _of_large(self) -> int:
        return self.messages // 2

    @property
    def _of_each(self) -> int:
        return self.messages // 2 // self.queues

    @property
    def _listeners_of_large(self) -> int:
        return self.listeners // 10

    def statements(self) -> Iterator[str]:
        """Yield what makes the rows. No worker may be on the database."""
        yield from self._queues()
        yield from self._listeners()
        for first in range(OPEN_MESSAGES + 1, self._of_large + 1, _ROWS_AT_ONCE):
            yield self._large_log(first, min(first + _ROWS_AT_ONCE - 1, self._of_large))
        for first in range(1, self.queues + 1, _QUEUES_AT_ONCE):
            yield self._small_logs(first, min(first + _QUEUES_AT_ONCE - 1, self.queues))
        yield from self._missed_of_one()
        yield self._missed_of_others()
        yield from self._history()

    def _queues(self) -> Iterator[str]:
        model = f"model.public_id = '{self.models.queue}'"
        changes = {"id": f"model.id - n * {_ONE_MILLISECOND}", "public_id": _public_id("Q"), "alias": _name("queue")}
        yield _copied("queue", changes, self.queues, model)
        changes = {"queue": f"model.queue - n * {_ONE_MILLISECOND}", "head": f"{self._of_each}", "tail": "0"}
        yield _copied("queue_head", changes, self.queues, self._of_model)
        # Messages that the product made are the oldest: the times of a log do not fall.
        oldest = self._of_large * _MESSAGE_MS
        yield f"UPDATE log SET stored_at = stored_at - {oldest} WHERE queue = {self._queue}"
        yield f"UPDATE queue_head SET head = {self._of_large} WHERE queue = {self._queue}"

    def _listeners(self) -> Iterator[str]:
        """Ten of each queue; the first of them is disabled, and settles nothing."""
        model = f"model.public_id = '{self.models.listener}'"
        queue = f"model.queue - (n % {self.queues} + 1) * {_ONE_MILLISECOND}"
        is_of_large = f"n <= {self._listeners_of_large}"
        is_disabled = f"n > {self._listeners_of_large} AND n <= {self._listeners_of_large + self.queues}"
        changes = {
            "id": f"model.id - n * {_ONE_MILLISECOND}",
            "public_id": _public_id("L"),
            "alias": _name("listener"),
            "queue": f"CASE WHEN {is_of_large} THEN model.queue ELSE {queue} END",
            "status": f"CASE WHEN {is_disabled} THEN 'disabled' ELSE model.status END",
        }
        yield _copied("listener", changes, self.listeners, model)
        columns = _SPECS["cursor"].columns
        changes = {
            "listener": "listener.id",
            "queue": "listener.queue",
            "position": f"""CASE WHEN listener.status = 'disabled' THEN 0
                WHEN listener.queue = model.queue THEN {self._of_large} ELSE {self._of_each} END""",
        }
        yield f"""
            INSERT INTO cursor ({", ".join(columns)}) SELECT {_values(columns, changes)}
            FROM cursor AS model JOIN listener ON listener.organization = model.organization
            WHERE model.listener = {self._listener(self.models.listener)}
                AND listener.public_id LIKE '{_prefix("L")}%'"""
        yield f"""
            UPDATE cursor SET position = {self._of_large}, ahead = NULL, retrying = 0
            WHERE queue = {self._queue} AND listener <> {self._listener(self.models.disabled)}"""

    def _large_log(self, first: int, last: int) -> str:
        changes = {
            "seq": "n",
            "id": _public_id("M"),
            "stored_at": f"model.stored_at + n * {_MESSAGE_MS}",
            "alias": "NULL",
        }
        model = f"{self._of_model} AND model.seq = CASE WHEN n % {KEYED_OF} = 0 THEN 1 ELSE 2 END"
        return _copied("log", changes, last, model, first=first)

    def _small_logs(self, first: int, last: int) -> str:
        columns = _SPECS["log"].columns
        distance = self._of_large // self._of_each * _MESSAGE_MS
        changes = {
            "queue": f"model.queue - number.n * {_ONE_MILLISECOND}",
            "seq": "seq.n",
            "id": _public_id("N", f"number.n * {self._of_each} + seq.n"),
            "stored_at": f"model.stored_at + seq.n * {distance}",
            "alias": "NULL",
        }
        return f"""
            WITH RECURSIVE {_numbers("number", first, last)}, {_numbers("seq", 1, self._of_each)}
            INSERT INTO log ({", ".join(columns)}) SELECT {_values(columns, changes)}
            FROM number CROSS JOIN seq CROSS JOIN log AS model
            WHERE {self._of_model} AND model.seq = 2"""

    def _missed_of_one(self) -> Iterator[str]:
        """Two fifths of all, one by one, and a tenth in one range below them."""
        apart, together = self.missed * 2 // 5, self.missed // 10
        first = self._of_large - apart + 1
        listener = self._listener(self.models.missing)
        own = f"organization = {self._organization} AND listener = {listener}"
        for start in range(first, self._of_large + 1, _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE - 1, self._of_large)
            yield f"""
                WITH RECURSIVE {_numbers("number", start, end)}
                INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
                SELECT organization, listener, 0, n, queue, 'missed', 3, {self._now}, {_reason("n")}
                FROM number CROSS JOIN cursor WHERE {own}"""
        yield f"""
            INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at)
            SELECT organization, listener, {first - together}, queue, {first - 1}, 'too_old', {self._now}
            FROM cursor WHERE {own}"""
        yield f"UPDATE cursor SET missed = {apart + together} WHERE {own}"
        yield f"""
            WITH RECURSIVE {_numbers("number", first, self._of_large)}
            INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
            SELECT organization, listener - n * {_ONE_MILLISECOND}, listener, queue, n, 1,
                CASE WHEN n % 100 = 0 THEN 404 ELSE 503 END, 'status', n % 1000, ''
            FROM number CROSS JOIN cursor WHERE {own}"""

    def _missed_of_others(self) -> str:
        """The other half, by all enabled listeners of the other queues: their newest messages."""
        each = min(self.missed // 2 // (self.listeners * 9 // 10 - self.queues), self._of_each)
        return f"""
            WITH RECURSIVE {_numbers("number", self._of_each - each + 1, self._of_each)}
            INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
            SELECT cursor.organization, listener, 0, n, cursor.queue, 'missed', 3, {self._now}, 'attempts_used_up'
            FROM listener JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
                CROSS JOIN number
            WHERE listener.public_id LIKE '{_prefix("L")}%' AND listener.status = 'enabled'
                AND listener.queue <> {self._queue}"""

    def _history(self) -> Iterator[str]:
        """A day of counts, for the organization and for its newest listeners, and of events."""
        period = f"{self._now} / {PERIOD_MS} - number.n"
        yield f"""
            WITH RECURSIVE {_numbers("number", 1, _PERIODS_A_DAY)}, {_numbers("kind", 1, _TALLY_KINDS)},
                {_numbers("slot", 4, 3 + _TALLY_SLOTS)}
            INSERT INTO tally (organization, period, kind, slot, n)
            SELECT {self._organization}, {period}, kind.n, slot.n, 1000 FROM number CROSS JOIN kind CROSS JOIN slot"""
        yield f"""
            WITH RECURSIVE {_numbers("number", 1, _PERIODS_A_DAY)}
            INSERT INTO listener_tally (organization, listener, period, acknowledged, failed, missed)
            SELECT organization, id, {period}, 1000, 100, 10 FROM number CROSS JOIN (
                SELECT organization, id FROM listener ORDER BY id DESC LIMIT {_TALLIED_LISTENERS}) AS newest"""
        yield f"""
            WITH RECURSIVE {_numbers("number", 1, self.listeners * 10)}
            INSERT INTO event (organization, id, kind, client, ref, name)
            SELECT organization, id - n * {_EVENT_MS * _ONE_MILLISECOND}, 'listener_updated', '', public_id, alias
            FROM number CROSS JOIN listener WHERE public_id = '{self.models.missing}'"""

    @property
    def _of_model(self) -> str:
        """A condition for rows of the queue that is copied, by the beginning of a key."""
        return f"model.organization = {self._organization} AND model.queue = {self._queue}"

    @property
    def _organization(self) -> str:
        return f"(SELECT organization FROM queue WHERE public_id = '{self.models.queue}')"

    @property
    def _queue(self) -> str:
        return f"(SELECT id FROM queue WHERE public_id = '{self.models.queue}')"

    @property
    def _now(self) -> str:
        """The time at which the product made the queue."""
        return f"(SELECT created_at FROM queue WHERE public_id = '{self.models.queue}')"

    def _listener(self, public_id: str) -> str:
        return f"(SELECT id FROM listener WHERE public_id = '{public_id}')"


def make(population: Population, run: Callable[[str], object]) -> None:
    """`run` runs a statement in the database."""
    for statement in population.statements():
        run(statement)


def customers(queue: str, count: int) -> Iterator[str]:
    """Yield statements that copy a queue, given by its public id, with its only listener and without messages."""
    own = f"(SELECT id FROM queue WHERE public_id = '{queue}')"
    other = f"- n * {_ONE_MILLISECOND}"
    named = {"id": f"model.id {other}", "public_id": _public_id("C"), "alias": _name("customer")}
    yield _copied("queue", named, count, f"model.id = {own}")
    changes = {"queue": f"model.queue {other}", "head": "0", "tail": "0"}
    yield _copied("queue_head", changes, count, f"model.queue = {own}")
    yield _copied("listener", {**named, "queue": f"model.queue {other}"}, count, f"model.queue = {own}")
    changes = {"listener": f"model.listener {other}", "queue": f"model.queue {other}", "owner": "NULL"}
    yield _copied("cursor", changes, count, f"model.queue = {own}")


def customer_id(number: int) -> str:
    """Return the id of a queue that `customers` has made. `number` begins at 1."""
    return f"{_prefix('C')}{10**10 + number}"


def message_id(number: int) -> str:
    """The id of a message of the large queue, by its seq."""
    return f"{_prefix('M')}{10**10 + number}"


def _copied(table: str, changes: Mapping[str, str], last: int, model: str, *, first: int = 1) -> str:
    """Rows of a table like the row `model`, one for each number `n`, except for some columns."""
    columns = _SPECS[table].columns
    return f"""
        WITH RECURSIVE {_numbers("number", first, last)}
        INSERT INTO {table} ({", ".join(columns)}) SELECT {_values(columns, changes)}
        FROM number CROSS JOIN {table} AS model WHERE {model}"""


def _values(columns: Sequence[str], changes: Mapping[str, str]) -> str:
    return ", ".join(changes.get(column, f"model.{column}") for column in columns)


def _numbers(name: str, first: int, last: int) -> str:
    following = f"SELECT {name}.n + 1 FROM {name} WHERE {name}.n < {last}"
    return f"{name}(n) AS (SELECT CAST({first} AS BIGINT) UNION ALL {following})"


def _prefix(kind: str) -> str:
    return f"0BenchMar{kind}"


def _public_id(kind: str, number: str = "n") -> str:
    """Return SQL for a public id: 21 characters, and it sorts before every id that the service makes."""
    return f"'{_prefix(kind)}' || CAST({10**10} + {number} AS TEXT)"


def _name(kind: str) -> str:
    return f"'{kind}-' || CAST(n AS TEXT)"


def _reason(number: str) -> str:
    cases = " ".join(f"WHEN {index} THEN '{reason}'" for index, reason in enumerate(MISSED_REASONS))
    return f"CASE {number} % {len(MISSED_REASONS)} {cases} END"
