"""The metrics of a worker: what each is called, what it promises, and where its value comes from."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from platform import python_version
from typing import Any, Final, get_args

from discue import __version__
from discue.control.installation import files_of
from discue.dispatch.lane.states import BreakerState
from discue.domain.model import MISSED_REASONS, ListenerMode
from discue.http.rsgi import descriptors
from discue.observability.metrics import (
    ATTEMPT_OUTCOMES,
    OTHER,
    SOURCE_OUTCOMES,
    STATUSES,
    TIMED_OPERATIONS,
    CommitKind,
    Histogram,
    Metric,
    Operation,
    Samples,
    Snapshot,
    Stage,
    zeros,
)
from discue.observability.tracing import SpanResult
from discue.server.worker import Worker

TASKS: Final = (
    "backup",
    "delayed_messages",
    "domain_checks",
    "fault_reports",
    "heartbeat",
    "idle_lanes",
    "intake",
    "key_usage",
    "lease",
    "listener_counts",
    "loop_watch",
    "missed_reports",
    "orphaned_cursors",
    "poller",
    "probe_writes",
    "pull_backlogs",
    "pulled_messages",
    "purge",
    "refused_requests",
    "retention",
    "stuck_sessions",
)
"""The names of background work. A test compares them with what a worker runs."""

_LISTENER_STATES: Final = ("active", "inactive", "disabled")
_BACKLOGS: Final[tuple[tuple[str, ListenerMode], ...]] = (
    *((state, "push") for state in _LISTENER_STATES),
    # Probes are for push listeners only.
    ("active", "pull"),
    ("disabled", "pull"),
)

Measured = float | Histogram
Reading = Measured | Mapping[Any, Measured] | None
"""A value, or values by the value of a label or the values of several. None or empty if it is not measured."""

_STATM: Final = Path("/proc/self/statm")


@dataclass(slots=True)
class BacklogSum:
    """The waiting deliveries of some listeners."""

    waiting: int = 0
    retrying: int = 0
    since: int = 0
    """When the longest wait began, in milliseconds since the epoch. 0 if no delivery waits, or if the time is unknown.

    See `Lane.waiting_since` and `PullBacklog.since`.
    """

    def add(self, waiting: int, retrying: int, since: int) -> None:
        self.waiting += waiting
        self.retrying += retrying
        if since and (since < self.since or not self.since):
            self.since = since

    def age_seconds(self, now: int) -> float:
        return max(0, now - self.since) / 1_000 if self.since else 0.0


class Scrape:
    """Reads the state of a worker once. Everything is in memory, or a system call: no statement of the database."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.control = worker.control
        self.measures = worker.control.store.measures
        self.files = files_of(worker.control)
        backups = worker.jobs.backups
        self.backup_age = None if backups is None else backups.age_seconds
        self.push_by_state = zeros(_LISTENER_STATES)
        self.backlogs = {labels: BacklogSum() for labels in _BACKLOGS}
        lanes = worker.delivery.dispatcher.lanes
        awake = tuple(lanes)
        self.push_by_state["active"] = len(lanes) - len(awake)
        for lane in awake:
            state = "active"
            if not lane.owned.endpoint.enabled:
                state = "disabled"
            elif lane.limits.breaker.state is BreakerState.OPEN:
                state = "inactive"
            if not lane.key[2]:
                self.push_by_state[state] += 1
            if lane.waiting:
                # Else nothing is retried or unread, either. Most lanes of many are idle.
                self.backlogs[state, "push"].add(lane.waiting, lane.cursor.retrying, lane.waiting_since)
        for found in worker.jobs.pull_backlogs.all:
            if found.waiting:
                state = "active" if found.status == "enabled" else "disabled"
                self.backlogs[state, "pull"].add(found.waiting, found.retrying, found.since)


def _row(
    name: str,
    help_text: str,
    read: Callable[[Scrape], Reading],
    *,
    is_histogram: bool = False,
    **labels: tuple[str, ...],
) -> tuple[Metric, Callable[[Scrape], Reading]]:
    """Return a metric and what reads it. `labels` are the values of each of its labels."""
    return Metric(name, help_text, labels, is_histogram), read


_histogram: Final = partial(_row, is_histogram=True)


def _resident_bytes() -> int:
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    # macOS has no current size: the largest so far, in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


ROWS: Final = (
    # Publishing
    _row(
        "discue_published_messages_total",
        "Messages that were stored. A message of a topic counts once for each of its queues.",
        lambda scrape: scrape.measures.published_messages,
    ),
    _row(
        "discue_published_bytes_total",
        "Bytes of these messages, with their headers.",
        lambda scrape: scrape.measures.published_bytes,
    ),
    _histogram(
        "discue_publish_duration_seconds",
        "Time from the end of all checks until the messages of a request are durable.",
        lambda scrape: scrape.measures.publish_seconds,
    ),
    _histogram(
        "discue_commit_duration_seconds",
        "Duration of transactions, by what they contain. On SQLite, each contains everything.",
        lambda scrape: scrape.measures.commit_seconds,
        kind=get_args(CommitKind),
    ),
    _histogram(
        "discue_commit_parts",
        "Publishes, results of deliveries and other writes per transaction.",
        lambda scrape: scrape.measures.commit_parts,
    ),
    # Delivering
    _row(
        "discue_attempts_total",
        "Attempts whose outcome was stored, by outcome.",
        lambda scrape: scrape.measures.attempts,
        outcome=ATTEMPT_OUTCOMES,
    ),
    _histogram(
        "discue_attempt_duration_seconds",
        "Duration of requests to listeners, by stage. Reused connections have no `resolve`, `connect` and `tls`.",
        lambda scrape: scrape.measures.stage_seconds,
        stage=get_args(Stage),
    ),
    _histogram(
        "discue_delivery_lag_seconds",
        "Time from storing a message to the start of its first attempt.",
        lambda scrape: scrape.measures.delivery_lag,
    ),
    _row(
        "discue_deliveries_in_flight",
        "Requests to listeners that have no response yet.",
        lambda scrape: scrape.worker.delivery.dispatcher.limiter.in_flight,
    ),
    _row(
        "discue_backlog_messages",
        "Deliveries that are not settled, by the listener's state and mode.",
        lambda scrape: {labels: found.waiting for labels, found in scrape.backlogs.items()},
        state=_LISTENER_STATES,
        mode=get_args(ListenerMode),
    ),
    _row(
        "discue_backlog_age_seconds",
        "Age of the oldest message whose first attempt has not ended, by the listener's state and mode. `pull`: the "
        "longest time that a message could have been pulled, and was not.",
        lambda scrape: {
            labels: found.age_seconds(scrape.control.clock.now()) for labels, found in scrape.backlogs.items()
        },
        state=_LISTENER_STATES,
        mode=get_args(ListenerMode),
    ),
    _row(
        "discue_retrying_messages",
        "Deliveries that wait for another attempt, or behind one in the order of a key. Leased messages are included.",
        lambda scrape: sum(found.retrying for found in scrape.backlogs.values()),
    ),
    _row(
        "discue_missed_messages_total",
        "Deliveries that were missed, by reason.",
        lambda scrape: scrape.measures.missed,
        reason=(*MISSED_REASONS, OTHER),
    ),
    _row(
        "discue_source_requests_total",
        "Requests to sources by outcome: stored, repeated, or the reason of the refusal.",
        lambda scrape: scrape.measures.source_requests,
        outcome=SOURCE_OUTCOMES,
    ),
    _row(
        "discue_listeners",
        "Push listeners that this worker has, by state. `inactive`: liveness probes fail, so nothing is sent.",
        lambda scrape: scrape.push_by_state,
        state=_LISTENER_STATES,
    ),
    _row(
        "discue_breaker_transitions_total",
        "Changes of circuit breakers, by their new state.",
        lambda scrape: scrape.measures.breaker_transitions,
        to=tuple(state.value for state in BreakerState),
    ),
    _row(
        "discue_connections_total",
        "Requests to listeners that had a connection, by whether an earlier request had used it.",
        lambda scrape: scrape.measures.connections,
        reused=("false", "true"),
    ),
    _row(
        "discue_open_connections",
        "Connections to listeners, in use or idle.",
        lambda scrape: scrape.worker.delivery.sender.open_connections,
    ),
    _row(
        "discue_egress_proxy_failures_total",
        "Requests to listeners that the egress proxy failed to pass on. Their deliveries wait.",
        lambda scrape: scrape.measures.proxy_failures,
    ),
    _row(
        "discue_schedules_late_seconds",
        "How long the next run of a schedule, or delayed message, is overdue. Only the leader knows; others say 0.",
        lambda scrape: scrape.worker.jobs.scheduler.late_ms / 1_000,
    ),
    # Requests of clients
    _row(
        "discue_http_requests_total",
        "Requests from clients, by operation and by status of the response.",
        lambda scrape: scrape.measures.requests_by_class(),
        operation=get_args(Operation),
        status=STATUSES,
    ),
    _histogram(
        "discue_http_request_duration_seconds",
        "Time from the request to the response. Requests that wait for messages are not included.",
        lambda scrape: scrape.measures.request_seconds,
        operation=TIMED_OPERATIONS,
    ),
    # The worker
    _row(
        "discue_store_healthy",
        "1 if the last write to the database was possible, else 0.",
        lambda scrape: int(scrape.control.store.healthy),
    ),
    _row(
        "discue_store_damaged",
        "Queues with data that could not be read in the last ten minutes, plus 1 for damaged data that belongs to no "
        "single queue.",
        lambda scrape: len(scrape.control.store.damage.parts()),
    ),
    _row(
        "discue_leases_lost_total",
        "How often other workers took over from this one because it had not renewed its lease.",
        lambda scrape: scrape.measures.leases_lost,
    ),
    _row(
        "discue_takeovers_total",
        "Other workers that this one has taken over from because their lease had expired.",
        lambda scrape: scrape.measures.takeovers,
    ),
    _row(
        "discue_workers",
        "Live workers on the database, as seen by this one.",
        lambda scrape: scrape.control.store.workers,
    ),
    _row(
        "discue_task_failures_total",
        "Unexpected errors of background work. The work is repeated.",
        lambda scrape: scrape.worker.supervisor.failures,
        task=TASKS,
    ),
    _histogram(
        "discue_event_loop_lag_seconds",
        "How late the event loop runs a callback that is due, measured four times a second.",
        lambda scrape: scrape.measures.loop_lag,
    ),
    _row(
        "discue_gc_pause_seconds_total",
        "Total time of garbage collections.",
        lambda scrape: scrape.measures.gc_seconds,
    ),
    _row(
        "discue_database_file_bytes",
        "Size of the files of a SQLite database.",
        lambda scrape: (
            None if scrape.files is None else {"database": scrape.files.database, "wal": scrape.files.write_ahead_log}
        ),
        file=("database", "wal"),
    ),
    _row(
        "discue_disk_free_bytes",
        "Free space on the disk of a SQLite database.",
        lambda scrape: None if scrape.files is None else scrape.files.free,
    ),
    _row(
        "discue_backup_age_seconds",
        "With `backup_to`, the age of the newest backup, or the time without one.",
        lambda scrape: scrape.backup_age,
    ),
    _row(
        "discue_backup_interval_seconds",
        "`backup_every`, at the worker that makes backups.",
        lambda scrape: None if scrape.backup_age is None else scrape.control.settings.backup_every,
    ),
    _row(
        "discue_spans_total",
        "Spans of sampled messages, if they are exported. `failed`: the collector did not accept them; `dropped`: too "
        "many waited for it.",
        lambda scrape: {} if scrape.worker.tracer is None else scrape.worker.tracer.counts,
        result=get_args(SpanResult),
    ),
    _row(
        "discue_build_info",
        "Always 1.",
        lambda _: {(__version__, python_version()): 1},
        version=(__version__,),
        python=(python_version(),),
    ),
    _row("process_cpu_seconds_total", "Processor time of the process.", lambda _: time.process_time()),
    _row("process_resident_memory_bytes", "Memory of the process.", lambda _: _resident_bytes()),
    _row("process_start_time_seconds", "When the process started.", lambda scrape: scrape.worker.started_at),
    _row("process_open_fds", "Open files and connections.", lambda _: len(descriptors())),
    _row(
        "process_max_fds",
        "Limit of open files and connections.",
        lambda _: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    ),
)

METRICS: Final = tuple(metric for metric, _ in ROWS)


def snapshot_of(worker: Worker) -> Snapshot:
    """Return everything that is measured of a worker, now."""
    scrape = Scrape(worker)
    return {metric.name: _samples(read(scrape)) for metric, read in ROWS}


def _samples(reading: Reading) -> Samples:
    if reading is None:
        return []
    by_labels = reading if isinstance(reading, Mapping) else {(): reading}
    return [
        (
            (labels,) if isinstance(labels, str) else labels,
            value if isinstance(value, int | float) else value.observed(),
        )
        for labels, value in by_labels.items()
    ]
