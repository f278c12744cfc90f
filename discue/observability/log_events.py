"""The events of the log: every event with its fields, and the JSON Schema of a line with `log_format = "json"`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

Level = Literal["debug", "info", "warning", "error"]


class Field(NamedTuple):
    """A field of events. It means the same in each of them."""

    type: str | tuple[str, ...]
    """Type of JSON Schema, or several."""
    meaning: str


class LogEvent(NamedTuple):
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
    "count": Field(_INTEGER, "How many connections, cursors, messages, requests or workers."),
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
    "reasons": Field(_TEXT, "Number of messages or requests for each reason."),
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
    "source": Field(_TEXT, "Id of the source."),
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

MEANINGS: Final[Mapping[str, str]] = {
    "attempt": "An attempt to deliver a message has ended: it failed, or succeeded (`debug`).",
    "background_failed": "A background task failed; it is repeated.",
    "background_waits": "A background task waits for the database.",
    "backup_failed": "A backup was not made; the next one is tried.",
    "backup_kept": "An old backup could not be deleted.",
    "backup_made": "A backup was made and verified.",
    "connections_closed": "Idle connections were closed, because `max_connections` was reached.",
    "cursors_claimed": "The worker claimed cursors of listeners.",
    "cursors_released": "The worker released cursors of listeners.",
    "dashboard_served": "The dashboard is served at its own address.",
    "database_available": "The database can be read and written again.",
    "database_migrated": "Migrations were applied.",
    "database_unavailable": "The database cannot be read or written.",
    "delivery_not_shown": "`discue dev` could not print an attempt.",
    "disk_full": "The start waits for room on the disk.",
    "disk_has_room": "The disk has room again; the start goes on.",
    "dispatch_task_failed": "A background task of deliveries failed.",
    "drain_started": "The server stops: it accepts no more work.",
    "egress_proxy_failing": "The egress proxy fails to pass on requests to listeners: see `attempt`.",
    "encryption_key_created": "A key that encrypts secrets was created.",
    "heartbeat_failed": "`heartbeat_url` did not accept the heartbeat.",
    "heartbeat_recovered": "`heartbeat_url` accepts heartbeats again.",
    "identity_provider_failed": "Users cannot sign in with a provider.",
    "intake_refused": "A row of `discue_publish` cannot be published as a message.",
    "intake_waits": "Rows of `discue_publish` wait.",
    "key_rotation_incomplete": "Some secrets use an older key.",
    "key_usage_not_saved": "Times of last use of API keys were lost.",
    "lane_lost": "The state of a listener in memory did not match the database, and is read again.",
    "leader_gained": "The worker runs the periodic jobs from now on.",
    "leader_lost": "Another worker runs the periodic jobs.",
    "lease_not_released": "The lease was not released: others take over when it expires.",
    "leave_not_announced": "The other workers were not notified that this one stops.",
    "listener_counts_not_saved": "The last minute of the counts of listeners was lost.",
    "listener_disabled": "A listener was disabled.",
    "listener_enabled": "A listener was enabled.",
    "listener_inactive": "Probes of a listener fail: messages wait.",
    "listener_recovered": "A listener is no longer inactive.",
    "listener_unusable": "The row of a listener cannot be read.",
    "liveness": "The state of a listener's probes changed.",
    "lockout_started": "Too many failed attempts to authenticate or to sign in.",
    "messages_missed": "A listener has missed messages.",
    "metrics_served": "The metrics are served.",
    "not_warmed_up": "The database was not warmed up: the first requests are slower.",
    "page_failed": "A page was answered with `500`.",
    "peer_expired": "Another worker's lease has ended; it is taken over.",
    "proxy_not_trusted": (
        "A peer outside of `trusted_proxies` sent `X-Forwarded-For` or `Forwarded`, which is ignored. A worker "
        "logs it at most once an hour for each address or IPv6 /64, and for at most 20 of them in an hour."
    ),
    "pull_failed": "A background task of pulls failed.",
    "request": "A request was answered (`log_requests`).",
    "request_failed": "A request was answered with `500`.",
    "secrets_not_decrypted": "Secrets of listeners cannot be read.",
    "secrets_not_encrypted": "Secrets are stored in clear text.",
    "server_started": "The worker serves requests.",
    "server_stopped": "The worker has stopped.",
    "service_manager_not_notified": "systemd could not be notified of the state.",
    "session_ended": (
        "The connection of a process that hung in a transaction was ended, because others may wait for its locks."
    ),
    "source_refusing": "A source has refused requests.",
    "span_export_recovered": "The collector accepts spans again.",
    "spans_not_exported": "Spans are not exported although the settings ask for it.",
    "stopped_immediately": "A second signal stopped the server without a drain.",
    "store_damaged": (
        "A part of the database cannot be read. `queue` is the affected queue, empty if it is unknown. Other "
        "queues continue."
    ),
    "store_failed": "The database failed unexpectedly.",
    "stream_failed": "A stream of events ended early because of an error.",
    "worker_ended": "A worker has ended; it is started again.",
    "worker_expired": "The worker's lease has ended and others took over; it joins again.",
    "worker_joined": "The worker takes part in the cluster.",
    "worker_killed": "A worker did not stop in time.",
    "worker_not_started": "The operating system could not start a worker process.",
    "workers_started": "The worker processes are started.",
    "workers_stopped": "All worker processes have ended.",
}
"""The meaning of each event, in alphabetical order.

The calls that write an event say its levels and fields: `docs/log_events_page.py` reads them for the documentation.
"""

MAPPED_FIELDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "attempt": (
        ("message", "listener", "queue", "seq", "number", "status", "error", "took_ms"),
        ("trace_id", "span_id", "replay", "cause", "detail"),
    ),
    "database_migrated": (("database", "from_version", "to_version"), ()),
    "lockout_started": (("kind", "name", "address", "seconds"), ()),
    "request": (
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
    "request_failed": (("method", "path", "request_id"), ("trace_id",)),
    "server_started": (("version", "url", "database", "role", "pid"), ("worker",)),
    "server_stopped": ((), ("worker",)),
    "stream_failed": (("method", "path", "request_id"), ("trace_id",)),
    "worker_ended": (("worker", "pid"), ("exit_code", "signal")),
}
"""Fields of each line, and of some lines, of the events whose calls pass on a mapping."""

LIBRARY: Final = LogEvent("library", ("warning", "error"), "A line of a library.", ("logger", "message"), (), True)
"""The event of the lines of libraries."""

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


def line_schema(events: Iterable[LogEvent]) -> dict[str, Any]:
    by_name = {event.name: event for event in events}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the log of discue",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in by_name],
        "$defs": {name: event_schema(event) for name, event in by_name.items()},
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
