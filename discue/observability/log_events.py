"""The events of the log: every event with its fields, and the JSON Schema of a line with `log_format = "json"`."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error"]


class Field(NamedTuple):
    """A field of events. It means the same in each of them."""

    type: str | tuple[str, ...]
    """Type of JSON Schema, or several."""
    meaning: str


class LogEvent(NamedTuple):
    """An event of the log."""

    name: str
    levels: tuple[Level, ...]
    meaning: str
    fields: tuple[str, ...] = ()
    """Fields of each line."""
    optional: tuple[str, ...] = ()
    """Fields of some lines."""
    has_traceback: bool = False
    """Whether its lines have the fields `exception` and `trace`."""


_TEXT: Final = "string"
_INTEGER: Final = "integer"
_NUMBER: Final = "number"

FIELDS: Final[Mapping[str, Field]] = {
    "address": Field(
        _TEXT, "Address of the locked-out client (IPv6: its network), or id of the browser; empty for a user."
    ),
    "api_key_id": Field(_TEXT, "Id of the caller's API key; empty without one."),
    "before": Field(_TEXT, "The state before."),
    "bytes": Field(_INTEGER, "Size in bytes."),
    "cause": Field(_TEXT, "Cause of a failure, for operators only."),
    "client": Field(_TEXT, "Address of the client."),
    "count": Field(_INTEGER, "How many connections, cursors, messages or workers."),
    "database": Field(_TEXT, "The database, without its password."),
    "database_bytes": Field(_INTEGER, "Size of the database."),
    "deleted": Field(_INTEGER, "Old backups that were deleted."),
    "destination": Field(_TEXT, "Folder or bucket that backups are stored in."),
    "detail": Field(_TEXT, "A sentence about what happened."),
    "dropped": Field(_INTEGER, "Spans that were dropped so far because too many waited."),
    "error": Field(_TEXT, "Kind of failure; `none` for success."),
    "exit_code": Field(_INTEGER, "Exit code of a process."),
    "failed": Field(_INTEGER, "Spans that the collector has not accepted so far."),
    "file": Field(_TEXT, "Path of a file."),
    "from_version": Field(_INTEGER, "Version of the schema before."),
    "hint": Field(_TEXT, "A remedy."),
    "kind": Field(
        _TEXT, "The kind of the locked-out subject: `api_key`, `unknown_key`, `device`, `sign_in` or `user`."
    ),
    "limit": Field(_INTEGER, "The limit that applies."),
    "listener": Field(_TEXT, "Id of the listener."),
    "listeners": Field(_INTEGER, "How many listeners are concerned."),
    "logger": Field(_TEXT, "Name of the library's logger."),
    "losses_in_a_row": Field(
        _INTEGER, "How many times in a row the listener was read again before it stored an outcome."
    ),
    "message": Field(_TEXT, "Id of the message; of `library`, the text."),
    "method": Field(_TEXT, "Method of the request."),
    "name": Field(
        _TEXT,
        "The id of the locked-out API key, or the email of the user or of the browser's user; empty for other kinds.",
    ),
    "number": Field(_INTEGER, "Number of the attempt, from 1."),
    "organization": Field(_TEXT, "Id of the caller's organization; empty without one."),
    "path": Field(_TEXT, "Path of the request."),
    "pid": Field(_INTEGER, "Id of the process."),
    "place": Field(_TEXT, "The part of the store that failed."),
    "protocol": Field(_TEXT, "Version of HTTP."),
    "provider": Field(_TEXT, "Name of the identity provider."),
    "queue": Field(_TEXT, "Id of the queue."),
    "reason": Field(_TEXT, "The reason."),
    "reasons": Field(_TEXT, "Number of messages for each reason."),
    "repeated": Field(_INTEGER, "How many such failures were left out since the last line about them."),
    "replay": Field(_TEXT, "Id of the replay."),
    "request_id": Field(_TEXT, "Id of the request: `x-request-id` of its response."),
    "role": Field(_TEXT, "The setting `role`."),
    "row": Field(_INTEGER, "Id of the row in the intake."),
    "seconds": Field(_NUMBER, "Duration in seconds."),
    "seq": Field(_INTEGER, "Number of the message in its queue."),
    "session": Field(_TEXT, "Name of a connection to PostgreSQL (`application_name`)."),
    "session_id": Field(_INTEGER, "Id of a run of a worker."),
    "signal": Field((_TEXT, _INTEGER), "The signal; its number if it has no name."),
    "slot": Field(_INTEGER, "Slot of the worker."),
    "span_id": Field(_TEXT, "Id of the attempt's span."),
    "state": Field(_TEXT, "The state now."),
    "status": Field(_INTEGER, "Status of the response; 0 without one."),
    "to_version": Field(_INTEGER, "Version of the schema now."),
    "took_ms": Field(_NUMBER, "Duration in milliseconds."),
    "trace_id": Field(_TEXT, "Id of the trace that the request or message belongs to."),
    "url": Field(_TEXT, "URL that the server or the metrics are served at."),
    "version": Field(_TEXT, "Version of the program."),
    "wal_bytes": Field(_INTEGER, "Size of the write-ahead log."),
    "work": Field(_TEXT, "Name of the background task."),
    "worker": Field(_INTEGER, "Number of the worker on this machine, from 1."),
}

EVENTS: Final = (
    LogEvent(
        "attempt",
        ("debug", "warning"),
        "An attempt to deliver a message has ended: it failed, or succeeded (`debug`).",
        ("message", "listener", "queue", "seq", "number", "status", "error", "took_ms"),
        ("trace_id", "span_id", "replay", "cause", "detail"),
    ),
    LogEvent("background_failed", ("error",), "A background task failed; it is repeated.", ("work",), (), True),
    LogEvent("background_waits", ("warning",), "A background task waits for the database.", ("work", "reason")),
    LogEvent("backup_failed", ("error",), "A backup was not made; the next one is tried.", ("destination", "reason")),
    LogEvent("backup_kept", ("warning",), "An old backup could not be deleted.", ("reason",)),
    LogEvent(
        "backup_made",
        ("info",),
        "A backup was made and verified.",
        ("file", "bytes", "database_bytes", "wal_bytes", "seconds", "deleted"),
    ),
    LogEvent(
        "connections_closed",
        ("warning",),
        "Idle connections were closed, because `max_connections` was reached.",
        ("count", "limit"),
    ),
    LogEvent("cursors_claimed", ("debug",), "The worker claimed cursors of listeners.", ("count",)),
    LogEvent("cursors_released", ("debug",), "The worker released cursors of listeners.", ("count",)),
    LogEvent("dashboard_served", ("info",), "The dashboard is served at its own address.", ("url",)),
    LogEvent("database_available", ("info",), "The database can be read and written again."),
    LogEvent("database_migrated", ("info",), "Migrations were applied.", ("database", "from_version", "to_version")),
    LogEvent("database_unavailable", ("warning",), "The database cannot be read or written.", ("reason",)),
    LogEvent("delivery_not_shown", ("error",), "`discue dev` could not print an attempt.", (), (), True),
    LogEvent("disk_full", ("warning",), "The start waits for room on the disk.", ("database", "reason", "detail")),
    LogEvent("disk_has_room", ("info",), "The disk has room again; the start goes on.", ("database",)),
    LogEvent("dispatch_task_failed", ("error",), "A background task of deliveries failed.", (), (), True),
    LogEvent("drain_started", ("info",), "The server stops: it accepts no more work.", (), ("signal", "reason")),
    LogEvent("encryption_key_created", ("info",), "A key that encrypts secrets was created.", ("file", "hint")),
    LogEvent("heartbeat_failed", ("warning",), "`heartbeat_url` did not accept the heartbeat.", ("status", "error")),
    LogEvent("heartbeat_recovered", ("info",), "`heartbeat_url` accepts heartbeats again."),
    LogEvent("identity_provider_failed", ("warning",), "Users cannot sign in with a provider.", ("provider", "reason")),
    LogEvent(
        "intake_refused",
        ("error",),
        "A row of `discue_publish` cannot be published as a message.",
        ("queue", "row", "reason"),
    ),
    LogEvent("intake_waits", ("warning",), "Rows of `discue_publish` wait.", ("queue", "reason")),
    LogEvent("key_rotation_incomplete", ("warning",), "Some secrets use an older key.", ("hint",)),
    LogEvent("key_usage_not_saved", ("warning",), "Times of last use of API keys were lost.", ("reason",)),
    LogEvent(
        "lane_lost",
        ("warning",),
        "The state of a listener in memory did not match the database, and is read again.",
        ("listener", "losses_in_a_row"),
    ),
    LogEvent("leader_gained", ("info",), "The worker runs the periodic jobs from now on.", ("session_id",)),
    LogEvent("leader_lost", ("info",), "Another worker runs the periodic jobs.", ("session_id",)),
    LogEvent(
        "lease_not_released", ("warning",), "The lease was not released: others take over when it expires.", ("reason",)
    ),
    LogEvent(
        "leave_not_announced", ("warning",), "The other workers were not notified that this one stops.", ("reason",)
    ),
    LogEvent("library", ("warning", "error"), "A line of a library.", ("logger", "message"), (), True),
    LogEvent(
        "listener_counts_not_saved", ("warning",), "The last minute of the counts of listeners was lost.", ("reason",)
    ),
    LogEvent("listener_disabled", ("info",), "A listener was disabled.", ("listener", "reason")),
    LogEvent("listener_enabled", ("info",), "A listener was enabled.", ("listener", "reason")),
    LogEvent("listener_inactive", ("warning",), "Probes of a listener fail: messages wait.", ("listener", "reason")),
    LogEvent("listener_recovered", ("info",), "A listener is no longer inactive.", ("listener", "state")),
    LogEvent("listener_unusable", ("error",), "The row of a listener cannot be read.", ("listener",), (), True),
    LogEvent("liveness", ("debug",), "The state of a listener's probes changed.", ("listener", "state", "before")),
    LogEvent(
        "lockout_started",
        ("warning",),
        "Too many failed attempts to authenticate or to sign in.",
        ("kind", "name", "address", "seconds"),
    ),
    LogEvent(
        "messages_missed", ("info",), "A listener has missed messages.", ("listener", "queue", "count", "reasons")
    ),
    LogEvent("metrics_served", ("info",), "The metrics are served.", ("url",)),
    LogEvent(
        "not_warmed_up", ("warning",), "The database was not warmed up: the first requests are slower.", ("reason",)
    ),
    LogEvent("page_failed", ("error",), "A page was answered with `500`.", ("method", "path", "request_id"), (), True),
    LogEvent("peer_expired", ("warning",), "Another worker's lease has ended; it is taken over.", ("session_id",)),
    LogEvent(
        "proxy_not_trusted",
        ("warning",),
        "A peer outside of `trusted_proxies` sent `X-Forwarded-For` or `Forwarded`, which is ignored. A worker logs it "
        "at most once an hour for each address or IPv6 /64, and for at most 20 of them in an hour.",
        ("client", "hint"),
    ),
    LogEvent("pull_failed", ("error",), "A background task of pulls failed.", (), (), True),
    LogEvent(
        "request",
        ("info",),
        "A request was answered (`log_requests`).",
        (
            "request_id",
            "method",
            "path",
            "status",
            "bytes",
            "took_ms",
            "client",
            "protocol",
            "organization",
            "api_key_id",
        ),
        ("trace_id",),
    ),
    LogEvent(
        "request_failed",
        ("error",),
        "A request was answered with `500`.",
        ("method", "path", "request_id"),
        ("trace_id",),
        True,
    ),
    LogEvent("secrets_not_decrypted", ("error",), "Secrets of listeners cannot be read.", ("listeners", "hint")),
    LogEvent("secrets_not_encrypted", ("warning",), "Secrets are stored in clear text.", ("hint",)),
    LogEvent(
        "server_started",
        ("info",),
        "The worker serves requests.",
        ("version", "url", "database", "role", "pid"),
        ("worker",),
    ),
    LogEvent("server_stopped", ("info",), "The worker has stopped.", (), ("worker",)),
    LogEvent("service_manager_not_notified", ("warning",), "systemd could not be notified of the state.", ("reason",)),
    LogEvent(
        "session_ended",
        ("warning",),
        "The connection of a process that hung in a transaction was ended, because others may wait for its locks.",
        ("session",),
    ),
    LogEvent("span_export_recovered", ("info",), "The collector accepts spans again.", ("dropped", "failed")),
    LogEvent(
        "spans_not_exported", ("warning",), "Spans are not exported although the settings ask for it.", ("reason",)
    ),
    LogEvent("stopped_immediately", ("warning",), "A second signal stopped the server without a drain.", ("signal",)),
    LogEvent(
        "store_damaged",
        ("error",),
        "A part of the database cannot be read. `queue` is the affected queue, empty if it is unknown. Other queues "
        "continue.",
        ("queue", "hint"),
    ),
    LogEvent("store_failed", ("error",), "The database failed unexpectedly.", ("place", "repeated"), (), True),
    LogEvent(
        "stream_failed",
        ("error",),
        "A stream of events ended early because of an error.",
        ("method", "path", "request_id"),
        ("trace_id",),
        True,
    ),
    LogEvent(
        "worker_ended",
        ("warning",),
        "A worker has ended; it is started again.",
        ("worker", "pid"),
        ("exit_code", "signal"),
    ),
    LogEvent(
        "worker_expired",
        ("warning",),
        "The worker's lease has ended and others took over; it joins again.",
        ("session_id", "detail"),
    ),
    LogEvent("worker_joined", ("info",), "The worker takes part in the cluster.", ("session_id", "slot")),
    LogEvent("worker_killed", ("error",), "A worker did not stop in time.", ("worker", "pid", "reason")),
    LogEvent(
        "worker_not_started", ("error",), "The operating system could not start a worker process.", ("worker", "reason")
    ),
    LogEvent("workers_started", ("info",), "The worker processes are started.", ("count", "pid")),
    LogEvent("workers_stopped", ("info",), "All worker processes have ended.", ("exit_code",)),
)

COMMON: Final[Mapping[str, dict[str, Any]]] = {
    "time": {"type": "string", "format": "date-time", "description": "The time, in UTC."},
    "level": {"type": "string", "description": "The severity."},
    "event": {"type": "string", "description": "The name of the event."},
}
"""Fields of every line, in this order."""

_AT_THE_END: Final[Mapping[str, dict[str, Any]]] = {
    "truncated": {"const": True, "description": "The line was too long: values are cut, or fields left out."},
    "repeated": {
        "type": "integer",
        "minimum": 1,
        "description": "How often the same line came again within ten seconds.",
    },
}
_ERROR_FIELDS: Final[Mapping[str, dict[str, Any]]] = {
    "exception": {"type": "string", "description": "The exception."},
    "trace": {"type": "string", "description": "Its traceback."},
}


def line_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the log of discue",
        "oneOf": [{"$ref": f"#/$defs/{event.name}"} for event in EVENTS],
        "$defs": {event.name: event_schema(event) for event in EVENTS},
    }


def event_schema(event: LogEvent) -> dict[str, Any]:
    """Return the JSON Schema of the lines of one event."""
    own = {name: _schema_of(FIELDS[name]) for name in (*event.fields, *event.optional)}
    properties: dict[str, Any] = {
        **COMMON,
        "level": {"enum": list(event.levels)},
        "event": {"const": event.name},
        **_AT_THE_END,
        **own,
        **(_ERROR_FIELDS if event.has_traceback else {}),
    }
    schema = {
        "type": "object",
        "description": event.meaning,
        "properties": properties,
        "required": list(COMMON),
        "additionalProperties": False,
    }
    if event.fields:
        schema["anyOf"] = [{"required": list(event.fields)}, {"required": ["truncated"]}]
    return schema


def _schema_of(field: Field) -> dict[str, Any]:
    types = list(field.type) if isinstance(field.type, tuple) else field.type
    return {"type": types, "description": field.meaning}
