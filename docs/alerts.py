"""The alerts: `deploy/prometheus/rules.yml`, and the sections of the monitoring page about what to do."""

from typing import Final, Literal, NamedTuple

PAGE_URL: Final = "docs/monitoring.md"

Severity = Literal["page", "ticket"]


class Alert(NamedTuple):
    """A rule of Prometheus, and the section of the runbook that it links to."""

    name: str
    expression: str
    minutes: int
    """How long the expression must hold."""
    severity: Severity
    """`page`: wake somebody. `ticket`: during working hours."""
    summary: str
    signs: str
    """Signs of the cause, and the places that show them."""
    remedy: str
    """The steps that remove the cause."""


_CLIENTS: Final = 'operation="publish"'
_PUSHED: Final = '{state="active", mode="push"}'
_PULLED: Final = '{state="active", mode="pull"}'

ALERTS: Final = (
    Alert(
        "DiscueDown",
        'up{job="discue"} == 0',
        1,
        "page",
        "A server of discue cannot be scraped.",
        "Is the process running (`systemctl status discue`), and what are the last lines of its log? "
        "`discue check` says whether it could start with these settings.",
        "Start it. With several workers, the others take over its listeners within `lease_seconds`.",
    ),
    Alert(
        "DiscueStoreUnavailable",
        "discue_store_healthy == 0",
        1,
        "page",
        "The database cannot be written: publishes get 503, and outcomes of deliveries wait.",
        "The log has `store_failed` with the cause. SQLite: is the disk full, or read-only? PostgreSQL: is the primary "
        "reachable from this machine, and does it accept writes?",
        "Fix the cause. The server keeps trying, and needs no restart. Nothing confirmed is lost; "
        "requests to listeners whose outcome could not be stored are repeated.",
    ),
    Alert(
        "DiscueStoreDamaged",
        "discue_store_damaged > 0",
        0,
        "page",
        "A part of the database cannot be read: some queues deliver no messages.",
        "The log has `store_damaged` with the queues, and `store_failed` with the cause. `/health/ready` has the "
        "status `damaged`. On SQLite, `discue backup` reads the whole database, and so fails. Check the system's log "
        "for a failing disk.",
        "Other queues continue, and lanes try again every 15 seconds. Copy the damaged database. Then restore a "
        "[backup](backup.md#restoring), on another disk if this one fails.",
    ),
    Alert(
        "DiscuePublishesFail",
        f'sum(rate(discue_http_requests_total{{{_CLIENTS}, status=~"503|5xx"}}[5m])) > 0 '
        f'unless sum(rate(discue_http_requests_total{{{_CLIENTS}, status="2xx"}}[5m])) > 0',
        2,
        "page",
        "Clients publish, but no message is stored.",
        "`discue_store_healthy`, `discue_commit_duration_seconds`, and `detail` of the responses (`log_requests`).",
        "If commits are slow, see DiscueCommitsSlow. If too much waits to be stored, slow the publisher down, or raise "
        "`max_waiting_bytes`.",
    ),
    Alert(
        "DiscueBacklogOld",
        f"max by (job) (discue_backlog_age_seconds{_PUSHED}) > 300 "
        f"and deriv(max by (job) (discue_backlog_age_seconds{_PUSHED})[10m:1m]) > 0",
        5,
        "page",
        "The oldest message has waited for its first attempt for more than five minutes, and its age grows.",
        "`/metrics/detailed?family=listeners` names the listeners with the largest backlogs; `waits_for` of a message "
        "says what it waits for. `discue_deliveries_in_flight` at `max_in_flight`: the worker has no free slot. "
        "`discue_event_loop_lag_seconds`: it has no processor time left.",
        "A slow listener: let it answer faster, or raise its `max_in_flight` or `rate_limit`. A busy worker: add workers "
        "(PostgreSQL).",
    ),
    Alert(
        "DiscuePullBacklogOld",
        f"max by (job) (discue_backlog_age_seconds{_PULLED}) > 3600 "
        f"and deriv(max by (job) (discue_backlog_age_seconds{_PULLED})[10m:1m]) > 0",
        5,
        "ticket",
        "A message of a pull listener could have been pulled for more than an hour: its consumer may be gone.",
        "`/metrics/detailed?family=listeners` names the listeners with the largest backlogs. "
        '`discue_http_requests_total{operation="pull"}`: does any consumer ask at all?',
        "Start the consumer, or more of them. A consumer that runs once a day needs a higher threshold. If the messages are "
        "not needed, disable or delete the listener: what waits is missed after `delivery_deadline`.",
    ),
    Alert(
        "DiscueAttemptsFail",
        'sum(rate(discue_attempts_total{outcome!="acknowledged"}[15m])) / sum(rate(discue_attempts_total[15m])) > 0.05',
        15,
        "ticket",
        "More than 5 % of the attempts fail.",
        "`sum by (outcome) (rate(discue_attempts_total[15m]))`: all outcomes but `status` are about the network. "
        "`discue listeners` shows the last error of each listener.",
        "Tell the owner of the listener. Retries go on by its policy; missed messages can be redelivered.",
    ),
    Alert(
        "DiscueMessagesMissed",
        "sum by (reason) (increase(discue_missed_messages_total[1h])) > 0",
        1,
        "ticket",
        "Messages were missed: they were not acknowledged and are no longer retried.",
        "`GET /missed` lists them with their reasons.",
        "When the listener works again, `discue redeliver` sends them again.",
    ),
    Alert(
        "DiscueSourceRefuses",
        'sum by (job, outcome) (increase(discue_source_requests_total{outcome=~"signature_.*"}[15m])) > 20',
        0,
        "ticket",
        "Sources refuse requests: a provider has a new secret, or a stranger sends requests to their URLs.",
        "`GET /sources` shows the count of each source; its page in the dashboard shows the last requests and the reasons.",
        "If they are genuine, add the provider's new secret to the source. Stripe and Shopify retry refused requests; "
        "redeliver those of GitHub there.",
    ),
    Alert(
        "DiscueListenersInactive",
        'sum(discue_listeners{state="inactive"}) > 0',
        15,
        "ticket",
        "Probes of listeners fail, so nothing is sent to them.",
        "`GET /queues/{id}/listeners/{id}` has `liveness` with the last error; `discue doctor URL` tries the URL.",
        "Tell the owner. Deliveries go on by themselves when a probe succeeds.",
    ),
    Alert(
        "DiscueCommitsSlow",
        "histogram_quantile(0.99, sum by (job, le) (rate(discue_commit_duration_seconds_bucket[5m]))) > 0.25",
        5,
        "ticket",
        "One in a hundred commits takes more than a quarter of a second.",
        'SQLite: the disk (`iostat -x`), and `discue_database_file_bytes{file="wal"}`. PostgreSQL: locks and replication '
        "(`synchronous_commit` waits for the standby).",
        "Use a faster disk, or one without other programs. A publish takes as long as its commit.",
    ),
    Alert(
        "DiscueDiskLow",
        "discue_disk_free_bytes < 1e9 or predict_linear(discue_disk_free_bytes[6h], 24 * 3600) < 0",
        10,
        "page",
        "The disk of the database will be full within a day, or has less than 1 GB left.",
        "`discue_database_file_bytes`, `discue_backlog_messages`, and the retention of the largest queues.",
        "Make room, or shorten `retention`. On a full disk publishes get 503 and nothing is lost.",
    ),
    Alert(
        "DiscueBackupLate",
        "max by (job) (discue_backup_age_seconds) > 2 * max by (job) (discue_backup_interval_seconds)",
        5,
        "page",
        "The newest backup is older than twice the interval of backups.",
        "`backup_failed` in the log of the leader says why: no room, a folder that is not mounted, a damaged database. "
        "`discue check` shows the newest backup.",
        "Fix the cause: the server tries again within a minute. `discue backup` makes one now. If the database is "
        "damaged, restore the newest backup.",
    ),
    Alert(
        "DiscueLeaseLost",
        "increase(discue_leases_lost_total[10m]) > 0",
        0,
        "ticket",
        "A worker did not renew its lease, and others took over its listeners.",
        "`worker_expired` in its log; `discue_event_loop_lag_seconds`, `discue_gc_pause_seconds_total`, and pauses of the "
        "machine (suspended, swapping).",
        "Once: nothing. Messages in flight at that moment were sent twice. Often: more memory or processor time, or a "
        "longer `lease_seconds`.",
    ),
    Alert(
        "DiscueScheduleLate",
        "max by (job) (discue_schedules_late_seconds) > 60",
        1,
        "page",
        "A run of a schedule, or a delayed message, is overdue by more than a minute.",
        "Is there a leader (`leader_gained` in the logs)? `discue_store_healthy`, and `discue_task_failures_total` of "
        "`delayed_messages`.",
        "Restart the leader: another worker takes over. Runs are caught up, or skipped, as the schedule says.",
    ),
    Alert(
        "DiscueLoopSlow",
        "histogram_quantile(0.99, sum by (job, instance, le) (rate(discue_event_loop_lag_seconds_bucket[5m]))) > 0.25",
        5,
        "ticket",
        "The worker reacts late: it has more to do than a processor can.",
        "`process_cpu_seconds_total`: at 1 per second, one core is used up. Is the machine shared with others?",
        "Add workers (PostgreSQL), or give it a core of its own.",
    ),
    Alert(
        "DiscueTasksFail",
        "sum by (job, task) (increase(discue_task_failures_total[15m])) > 0",
        0,
        "ticket",
        "Background work ended with an unexpected error. It is repeated.",
        "`background_failed` in the log has the traceback.",
        "Report it as a bug.",
    ),
)


def anchor(alert: Alert) -> str:
    """Return the anchor of an alert's section."""
    return alert.name.lower()


def rules_file() -> str:
    """Return the rules for Prometheus."""
    lines = [
        "# Written by `make docs` from docs/alerts.py. The runbook is docs/monitoring.md.",
        "groups:",
        "  - name: discue",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: >-\n          {alert.expression}",
            f"        for: {alert.minutes}m",
            f"        labels:\n          severity: {alert.severity}",
            f"        annotations:\n          summary: {alert.summary!r}".replace("'", '"'),
            f"          runbook: {PAGE_URL}#{anchor(alert)}",
        ]
    return "\n".join(lines) + "\n"
