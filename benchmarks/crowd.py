"""Rows made by the database itself: many queues with many listeners, and messages that wait in all of them.

They are copies of one queue and one listener that the product made, with ids that lie in its past. Nothing of this is
ever analysed, as after a sudden growth: the plans of the statements must not depend on statistics.
"""

from collections.abc import Callable

import msgspec

from benchmarks.body import MESSAGE
from benchmarks.product import Listener, Queue

LISTENERS = 10
"""Of each queue; messages wait for the first of them, which is disabled."""

_QUEUES_AT_ONCE = 50
_ONE_MILLISECOND = 1 << 22
"""Between ids of rows."""

_NEVER_ANALYSED = """
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = false)', name);
        END LOOP;
    END $$"""


class Crowd(msgspec.Struct, frozen=True):
    """So many queues like `queue`, and so many messages in each of them and in itself."""

    queue: Queue
    listener: Listener
    queues: int
    messages: int

    def make(self, run: Callable[[str], object]) -> None:
        """`run` runs statements in the database. No worker may be on it."""
        run(_NEVER_ANALYSED)
        run(self._queues())
        run(self._heads())
        run(self._listeners())
        run(self._cursors())
        for first in range(0, self.queues + 1, _QUEUES_AT_ONCE):
            run(self._log(first, min(first + _QUEUES_AT_ONCE, self.queues + 1)))
        run("CHECKPOINT")

    def _queues(self) -> str:
        return f"""
            INSERT INTO queue SELECT (copy).* FROM (
                SELECT jsonb_populate_record(queue, jsonb_build_object(
                    'id', queue.id - n * {_ONE_MILLISECOND}::bigint, 'public_id', {self._id("n")},
                    'alias', {self._id("n")})) AS copy
                FROM queue, generate_series(1, {self.queues}) AS n WHERE queue.public_id = '{self.queue.id}'
                OFFSET 0) AS copies"""

    def _heads(self) -> str:
        return f"""
            INSERT INTO queue_head (organization, queue, head, tail, last_stored_at, config_version)
            SELECT organization, id, 0, 0, 0, config_version FROM queue
            WHERE public_id <> '{self.queue.id}' AND is_system = 0;
            UPDATE queue_head SET head = {self.messages}, last_stored_at = clock_ms()
            WHERE queue IN (SELECT id FROM queue WHERE is_system = 0)"""

    def _listeners(self) -> str:
        return f"""
            INSERT INTO listener SELECT (copy).* FROM (
                SELECT jsonb_populate_record(listener, jsonb_build_object(
                    'id', listener.id - (n * {LISTENERS} + k) * {_ONE_MILLISECOND}::bigint,
                    'queue', listener.queue - n * {_ONE_MILLISECOND}::bigint,
                    'public_id', {self._id(f"(n * {LISTENERS} + k)")}, 'alias', {self._id(f"(n * {LISTENERS} + k)")},
                    'status', CASE k WHEN 0 THEN 'disabled' ELSE 'enabled' END)) AS copy
                FROM listener, generate_series(1, {self.queues}) AS n, generate_series(0, {LISTENERS - 1}) AS k
                WHERE listener.public_id = '{self.listener.id}' OFFSET 0) AS copies"""

    def _cursors(self) -> str:
        """Those of listeners that take messages have settled all there are."""
        return f"""
            INSERT INTO cursor SELECT (copy).* FROM (
                SELECT jsonb_populate_record(cursor, jsonb_build_object(
                    'listener', listener.id, 'queue', listener.queue,
                    'position', CASE listener.status WHEN 'enabled' THEN {self.messages} ELSE 0 END)) AS copy
                FROM listener JOIN listener AS model ON model.public_id = '{self.listener.id}'
                JOIN cursor ON cursor.organization = model.organization AND cursor.listener = model.id
                WHERE listener.id <> model.id OFFSET 0) AS copies"""

    def _log(self, first: int, end: int) -> str:
        return f"""
            INSERT INTO log (organization, queue, seq, id, stored_at, size, codec, body)
            SELECT queue.organization, queue.id - n * {_ONE_MILLISECOND}::bigint, seq,
                {self._id(f"(n * {self.messages} + seq)")}, clock_ms(), {len(MESSAGE)}, 1, '\\x{MESSAGE.hex()}'
            FROM queue, generate_series({first}, {end - 1}) AS n, generate_series(1, {self.messages}) AS seq
            WHERE queue.public_id = '{self.queue.id}'"""

    def _id(self, number: str) -> str:
        """Return SQL for a public id, which has 21 characters."""
        return f"('{self.queue.id[:11]}' || lpad({number}::text, 10, '0'))"
