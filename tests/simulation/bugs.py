"""Bugs that only the simulation can have, in addition to those of `tests.faults.broken`."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from discue.dispatch.jobs.retention import Retention
from discue.dispatch.lane.lane import Lane
from discue.dispatch.lane.owned_cursor import DelayedFlushes, Flush
from discue.dispatch.lane.probes import Prober, _ProbedListener
from discue.dispatch.poller import Poller
from discue.domain.clock import DatabaseClock
from discue.sending.fetch import FetchResult
from discue.store import cursors, message_log, purge, workers
from discue.store.cursors import LaneRecord
from discue.store.engine import Transaction
from discue.store.group_commit import SettleResult
from discue.store.sqlite import engine
from discue.store.sqlite.connection import connect
from discue_client.inbox.once import Once
from tests.faults import broken
from tests.faults.broken import put


def commits_without_a_sync() -> None:
    def fast(path: Path, **settings: Any) -> apsw.Connection:
        connection = connect(path, **settings)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    put(engine, "connect", fast)


def polls_without_a_pause() -> None:
    async def wait(self: Poller) -> None:
        self._is_polling = True
        await asyncio.sleep(0)

    put(Poller, "_wait", wait)


def orders_probes_by_the_wall_clock() -> None:
    apply = Prober._apply

    def applied(self: Prober, listener: _ProbedListener, fetched: FetchResult, now: int) -> None:
        breaker, acknowledged_at = listener.lane.limits.breaker, listener.lane.owned.cursor.last_success_at
        probed_at = max(breaker.liveness.last_success_at, breaker.liveness.last_failure_at, 1)
        breaker.acknowledges = acknowledged_at >= probed_at
        apply(self, listener, fetched, now)

    put(Prober, "_apply", applied)


def takes_over_without_a_new_token() -> None:
    for place, name in ((cursors, "_CLAIM"), (cursors, "_TAKE_ALONG"), (workers, "_RELEASE_CURSORS")):
        put(place, name, getattr(place, name).replace("token = token + 1", "token = token"))


def follows_the_wall_clock() -> None:
    """Due times, expiry and leases of consumers follow the clock of the worker's machine."""
    put(DatabaseClock, "adjust", lambda _clock, _read, _sent_at: None)


def leaves_sessions_to_expired_workers() -> None:
    async def expire(tx: Transaction, session_id: int, **_named: object) -> bool:
        return await tx.execute(workers._EXPIRE, session_id) == 1

    put(workers, "expire_worker", expire)


def forgets_what_cursors_have_not_passed() -> None:
    put(purge, "_LOWEST_CURSOR", purge._LOWEST_CURSOR.replace("min(", "max("))


def forgets_what_is_retrying() -> None:
    put(purge, "_DELETE_MESSAGES", purge._DELETE_MESSAGES.replace("AND e.seq = log.seq", "AND false"))


def forgets_early() -> None:
    put(Retention, "_kept_since", lambda _self, _log, now: now)


def frees_bodies_that_others_use() -> None:
    put(message_log, "_DELETE_UNSHARED", message_log._DELETE_UNSHARED.replace(" AND uses <= 1", ""))


def never_forgets() -> None:
    async def keep(*_of: object) -> None:
        """Trim no log."""

    put(Retention, "_trim_log", keep)


def never_makes_delayed_flushes() -> None:
    put(DelayedFlushes, "wake", lambda _flushes: None)


def forgets_what_a_failed_commit_has_taken() -> None:
    on_result = Flush.on_result

    def forgetful(self: Flush, result: SettleResult) -> None:
        if isinstance(result, Exception):
            self._settle = None
        on_result(self, result)

    put(Flush, "on_result", forgetful)


def drops_lanes_with_requests_in_flight() -> None:
    put(Lane, "is_needed", property(lambda lane: lane.limits.fair_share is not None or not lane.backlog.is_caught_up))
    put(LaneRecord, "is_idle", property(lambda record: record.position >= record.head - 1 and not record.stream))


def commits_marks_apart_from_effects() -> None:
    enter = Once.__enter__

    def committed(self: Once) -> bool:
        first = enter(self)
        for statement in ("COMMIT", "BEGIN", "SAVEPOINT discue_inbox"):
            self._connection.execute(statement)
        return first

    put(Once, "__enter__", committed)


_OF_POSTGRES: Final = {"ignores_the_warning_of_a_commit"}

BUGS: Final[Mapping[str, Callable[[], None]]] = {
    **{name: bug for name, bug in broken.BUGS.items() if name not in _OF_POSTGRES},
    "forgets_early": forgets_early,
    "forgets_what_cursors_have_not_passed": forgets_what_cursors_have_not_passed,
    "forgets_what_is_retrying": forgets_what_is_retrying,
    "frees_bodies_that_others_use": frees_bodies_that_others_use,
    "never_forgets": never_forgets,
    "forgets_what_a_failed_commit_has_taken": forgets_what_a_failed_commit_has_taken,
    "drops_lanes_with_requests_in_flight": drops_lanes_with_requests_in_flight,
    "never_makes_delayed_flushes": never_makes_delayed_flushes,
    "follows_the_wall_clock": follows_the_wall_clock,
    "leaves_sessions_to_expired_workers": leaves_sessions_to_expired_workers,
    "commits_marks_apart_from_effects": commits_marks_apart_from_effects,
    "commits_without_a_sync": commits_without_a_sync,
    "polls_without_a_pause": polls_without_a_pause,
    "orders_probes_by_the_wall_clock": orders_probes_by_the_wall_clock,
    "takes_over_without_a_new_token": takes_over_without_a_new_token,
}
"""All bugs that a simulated worker can have, by name."""
