"""Invariants of the database: checked at each commit on the rows that it has changed, and at each attempt that starts.

A rule is a line of a table: what is wrong, and when it is, of a row as it was at the last commit and as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.lane import Lane
from discue.store.engine import Batch, BatchOutcome
from discue.store.sqlite.engine import SqliteEngine
from tests.faults.broken import put
from tests.simulation.trace import Trace

Key = tuple[int, ...]


class Cursor(NamedTuple):
    """A cursor, and what the rows that belong to it come to."""

    owner: int | None
    token: int
    version: int
    start_seq: int
    until_seq: int | None
    position: int
    ahead: bytes | None
    acknowledged: int
    missed: int
    retrying: int
    head: int
    open_rows: int
    """The delivery rows that are not missed, and the messages that are blocked behind any row."""
    missed_rows: int
    missed_in_ranges: int
    """The messages in ranges of missed ones, which have no rows of their own; 0 for a replay."""
    busy_keys: int
    """The messages that are leased or in flight although another one of their key is."""
    owner_is_alive: int | None
    """None without an owner."""

    @property
    def settled(self) -> int:
        """The settled seqs as bits, from seq 1 on."""
        return ((1 << self.position) - 1) | int.from_bytes(self.ahead or b"", "little") << self.position

    @property
    def last_settled(self) -> int:
        return self.settled.bit_length()


class Queue(NamedTuple):
    """The head of a queue, the highest seq in its log, and who refers to the lowest."""

    head: int
    tail: int
    highest: int
    passed: int
    """The position of the slowest cursor; without cursors the head."""
    lowest_row: int
    """The lowest seq with a delivery row; without rows the one after the head."""


class Body(NamedTuple):
    """A body, which is freed when it has no uses, and how many rows of the log name it."""

    uses: int
    """0 once it is freed."""
    named: int


class Worker(NamedTuple):
    """The row of a worker. Times are by the database's clock."""

    dead: int
    is_over: int
    """Whether its lease was over right after the commit."""
    is_leaving: int
    namesakes: int
    """How many other living workers have its slot."""
    holds_locks: int


_EXPIRED_EARLY: Final = "it was expired during its lease"
_OF_CURSOR: Final = "FROM delivery e WHERE e.organization = $1 AND e.listener = $2 AND e.stream = $3"
_TABLES: Final[Mapping[str, tuple[type[Any], str]]] = {
    "cursor": (
        Cursor,
        f"""SELECT c.owner, c.token, c.version, c.start_seq, c.until_seq, c.position, c.ahead, c.acknowledged, c.missed,
            c.retrying, h.head,
            (SELECT count(*) FILTER (WHERE e.state <> 'missed') + coalesce(sum(e.blocked), 0) {_OF_CURSOR}),
            (SELECT count(*) {_OF_CURSOR} AND e.state = 'missed'),
            (SELECT coalesce(sum(r.seq_to - r.seq_from + 1), 0) FROM missed_range r
                WHERE r.organization = $1 AND r.listener = $2 AND $3 = 0),
            (SELECT count(*) - count(DISTINCT e.key_hash) {_OF_CURSOR}
                AND e.state IN ('leased', 'sending') AND e.key_hash IS NOT NULL AND e.redelivered_at IS NULL),
            c.owner < 0 OR EXISTS (SELECT 1 FROM worker w WHERE w.session_id = c.owner AND w.dead = 0)
        FROM cursor c JOIN queue_head h ON h.organization = c.organization AND h.queue = c.queue
        WHERE c.organization = $1 AND c.listener = $2 AND c.stream = $3""",
    ),
    "queue_head": (
        Queue,
        """SELECT h.head, h.tail, (
            SELECT coalesce(max(l.seq), 0) FROM log l WHERE l.organization = h.organization AND l.queue = h.queue
        ), (
            SELECT coalesce(min(c.position), h.head) FROM cursor c
            WHERE c.organization = h.organization AND c.queue = h.queue
        ), (
            SELECT coalesce(min(e.seq), h.head + 1) FROM delivery e
            WHERE e.organization = h.organization AND e.queue = h.queue
        ) FROM queue_head h WHERE h.organization = $1 AND h.queue = $2""",
    ),
    "body": (
        Body,
        """SELECT coalesce((SELECT uses FROM body WHERE id = $1), 0), (SELECT count(*) FROM log WHERE body_id = $1)""",
    ),
    "worker": (
        Worker,
        """SELECT w.dead, w.lease_until <= clock_ms() OR w.lease_until > clock_ms() + w.lease_ms, w.is_leaving,
            (SELECT count(*) FROM worker o WHERE o.dead = 0 AND w.dead = 0 AND o.slot = w.slot) - (w.dead = 0),
            holds_locks(w.session_id)
        FROM worker w WHERE w.session_id = $1""",
    ),
}
"""The rows that rules are about, and how to read one by its key."""
_PART_OF: Final = {
    "body": ("body", 1),
    "cursor": ("cursor", 3),
    "delivery": ("cursor", 3),
    "log": ("queue_head", 2),
    "queue_head": ("queue_head", 2),
    "worker": ("worker", 1),
}
"""The table of the row that a changed row belongs to, and how many of its first columns are the key there."""

# Counts are exact where the product promises that. Fewer messages than settled ones are counted: a cursor passes
# over those that were deleted or that its filter rejects. Fewer missed ones have rows once their retention is over.
RULES: Final[Mapping[type[Any], Sequence[tuple[str, Callable[[Any, Any], bool]]]]] = {
    Cursor: (
        ("its token was lowered", lambda was, now: now.token < was.token),
        (
            "its owner has changed, and not its token",
            lambda was, now: now.owner != was.owner and now.token == was.token,
        ),
        ("it was given to a dead worker", lambda was, now: now.owner != was.owner and now.owner_is_alive == 0),
        ("its version was lowered", lambda was, now: now.version < was.version),
        (
            "its window was moved without a new version",
            lambda was, now: _moved(was, now) and now.version == was.version,
        ),
        ("its window has forgotten a settled message", lambda was, now: bool(was.settled & ~now.settled)),
        ("it has settled what is not in the log", lambda _, now: now.last_settled > now.head),
        ("it has settled what is after its end", lambda _, now: now.position > (now.until_seq or now.head)),
        ("it is before its start", lambda _, now: now.position < now.start_seq),
        ("it counts other open messages than there are rows", lambda _, now: now.retrying != now.open_rows),
        (
            "it counts fewer missed messages than there are rows",
            lambda _, now: now.missed < now.missed_rows + now.missed_in_ranges,
        ),
        (
            "it counts more messages than it has settled",
            lambda _, now: now.acknowledged + now.missed + now.retrying > now.settled.bit_count() - now.start_seq,
        ),
        ("two messages of a key are out at once", lambda _, now: now.busy_keys > 0),
    ),
    Queue: (
        ("its head was lowered", lambda was, now: now.head < was.head),
        ("its log is longer than its head says", lambda _, now: now.highest > now.head),
        ("its tail is beyond its head", lambda _, now: now.tail > now.head),
        ("its tail is beyond a cursor", lambda _, now: now.tail > now.passed),
        ("its tail is beyond a delivery row", lambda _, now: now.tail >= now.lowest_row),
    ),
    Body: (("it has other uses than the log names", lambda _, now: now.uses != now.named),),
    Worker: (
        ("it is alive again", lambda was, now: was.dead > now.dead),
        (_EXPIRED_EARLY, lambda was, now: now.dead > was.dead and not (now.is_over or now.is_leaving)),
        ("another living worker has its slot", lambda _, now: now.namesakes > 0),
        ("it is dead, and its session holds locks", lambda _, now: bool(now.dead and now.holds_locks)),
    ),
}


def _moved(was: Cursor, now: Cursor) -> bool:
    return (was.position, was.ahead) != (now.position, now.ahead)


class Invariants:
    """Watches the writers of one database. `broken` has a sentence for each rule that a commit has broken."""

    def __init__(self, trace: Trace, *, has_peers: bool) -> None:
        """Without peers a worker may expire its predecessor, which has ended, during its lease."""
        self._has_peers = has_peers
        self.holder: Callable[[], int] = lambda: 0
        """Returns the session that hangs with its locks; 0: none does."""
        self.broken: list[str] = []
        self._trace = trace
        self._changed: dict[tuple[str, Key], None] = {}
        self._known: dict[tuple[str, Key], Any] = {}
        self._watched: apsw.Connection | None = None
        self._path: Path | None = None

    def install(self) -> None:
        """Check all commits and attempts of this process from now on."""
        write, send = SqliteEngine._write_together, Lane._send

        def write_and_check(engine: SqliteEngine, batch: Batch) -> BatchOutcome:
            self._watch(engine)
            self._changed.clear()
            outcome = write(engine, batch)
            self._check(engine._writer)
            if False in outcome.settles:
                self._trace.reach("settle of a former owner")
            return outcome

        def check_and_send(lane: Lane, attempt: InFlightAttempt) -> None:
            self._check_owner(lane)
            send(lane, attempt)

        put(SqliteEngine, "_write_together", write_and_check)
        put(Lane, "_send", check_and_send)

    def _watch(self, engine: SqliteEngine) -> None:
        if engine._writer is not self._watched:
            self._watched = engine._writer
            self._watched.preupdate_hook(self._note)
            self._watched.create_scalar_function("holds_locks", lambda *of: of == (self.holder(),))
        if engine.path != self._path:
            # A standby, which may lack the last commits.
            self._path = engine.path
            self._known.clear()

    def _note(self, update: apsw.PreUpdate) -> None:
        if (part := _PART_OF.get(update.table_name)) is not None:
            row = update.new if update.old is None else update.old
            assert row is not None
            self._changed[part[0], tuple(row[: part[1]])] = None  # type: ignore[arg-type]

    def _check(self, connection: apsw.Connection) -> None:
        for table, key in self._changed:
            kind, select = _TABLES[table]
            row = connection.execute(select, key).fetchone()
            if row is None:
                self._known.pop((table, key), None)
                continue
            now = kind(*row)
            was = self._known.get((table, key), now)
            self._known[table, key] = now
            self._trace.reach(f"checked {table}")
            for sentence, is_broken in RULES[kind]:
                if is_broken(was, now) and (self._has_peers or sentence != _EXPIRED_EARLY):
                    self._break(f"{table} {key}: {sentence}: {was} became {now}")

    def _check_owner(self, lane: Lane) -> None:
        """Check that an attempt is started by the owner of its cursor. Nobody owns one that was deleted."""
        record, connection = lane.record, self._watched
        if not connection:
            # It is closed, because its process was killed, until another one writes.
            return
        now = connection.execute(_TABLES["cursor"][1], record.key).fetchone()
        if now is not None and Cursor(*now).owner != record.owner:
            self._break(f"worker {record.owner} starts an attempt of cursor {record.key}, which is not its own: {now}")

    def _break(self, sentence: str) -> None:
        self._trace.add("database", "broken", sentence)
        self.broken.append(sentence)
