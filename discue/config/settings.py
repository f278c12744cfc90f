"""Settings. Flags, environment variables, the TOML file and the documentation are derived from these definitions."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_type_hints

from discue.config import types
from discue.config.types import Network, Networks, SettingType
from discue.domain.attempts import AttemptDetailLevel
from discue.domain.quotas import Quotas

Command = Literal["serve", "dev", "init", "keys", "organizations", "unlock", "migrate", "copy", "rotate-key", "check"]

_SERVE: tuple[Command, ...] = ("serve", "check")
_RUN: tuple[Command, ...] = ("serve", "dev", "check")
_INITIALIZE: tuple[Command, ...] = ("serve", "dev", "init", "check")
_ENCRYPT: tuple[Command, ...] = ("serve", "dev", "init", "copy", "rotate-key", "check")
_OPEN_DATABASE: tuple[Command, ...] = (*_INITIALIZE, "keys", "organizations", "unlock", "migrate", "rotate-key")
_ALL: tuple[Command, ...] = (*_OPEN_DATABASE, "copy")

_DAY = 86_400
_MEBIBYTE = 1_048_576
_CENTURY = 100 * 365 * _DAY
_MAX_BUFFER = 64 * 1024 * _MEBIBYTE


class _Definition(NamedTuple):
    help: str
    type: SettingType
    commands: tuple[Command, ...]
    secret: bool


def _setting(
    text: str, setting_type: SettingType, commands: tuple[Command, ...] = _RUN, *, secret: bool = False
) -> _Definition:
    return _Definition(text, setting_type, commands, secret)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Settings:
    """The validated settings of a process. The repr shows no secrets."""

    database: Annotated[
        str,
        _setting(
            "The database: a SQLite file (not on a network filesystem) or a PostgreSQL URL, which may "
            "name several hosts (`host1:5432,host2:5432`) and parameters (`?sslmode=verify-full`, "
            "`?host=/run/postgresql`). Other users of the machine can read flags: set a password in the "
            "environment, in the file, with `PGPASSWORD` or `PGPASSFILE`, or in `~/.pgpass`.",
            types.DATABASE,
            _OPEN_DATABASE,
        ),
    ] = "sqlite:///discue.db"
    host: Annotated[
        str,
        _setting(
            "Address to listen on. Addresses other than loopback require TLS, or `insecure`.",
            types.HOST,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, _setting("Port to listen on; 0 for a free one.", types.integer(0, 65_535))] = 3000
    workers: Annotated[
        int, _setting("Number of worker processes, which share the port.", types.integer(1, 64), _SERVE)
    ] = 1
    role: Annotated[
        Literal["all", "api", "dispatch"],
        _setting(
            "Whether the process serves the API, delivers messages, or both. An installation needs processes for both.",
            types.one_of("all", "api", "dispatch"),
            _SERVE,
        ),
    ] = "all"
    tls_cert: Annotated[
        Path | None,
        _setting(
            "PEM file with the certificate and its intermediate certificates. Requires `tls_key`.", types.FILE, _SERVE
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        _setting("PEM file with the private key of the certificate. Requires `tls_cert`.", types.FILE, _SERVE),
    ] = None
    tls_self_signed: Annotated[
        bool,
        _setting(
            "Serve TLS with a self-signed certificate, created at each start. For testing.", types.BOOLEAN, _SERVE
        ),
    ] = False
    public_url: Annotated[
        str | None,
        _setting(
            "Base URL of links in responses. Without it, links use the scheme and host of the request.",
            types.PUBLIC_URL,
        ),
    ] = None
    insecure: Annotated[
        bool,
        _setting(
            "Allow cleartext HTTP on addresses other than loopback, behind a proxy that terminates TLS.", types.BOOLEAN
        ),
    ] = False
    trusted_proxies: Annotated[
        Networks,
        _setting(
            "Networks of proxies whose `Forwarded` and `X-Forwarded-For` headers are trusted. Clients "
            "behind other proxies share the proxy's address, its rate limit and its lockouts.",
            types.NETWORKS,
        ),
    ] = ()
    allow_private_targets: Annotated[
        bool | Networks,
        _setting(
            "Allow listeners at private addresses: all of them, or only those in some networks.",
            types.BOOLEAN_OR_NETWORKS,
        ),
    ] = False
    bootstrap_key: Annotated[
        str | None,
        _setting(
            "First API key of the operator's organization, instead of a random one that is printed once. "
            "Other users of the machine can read flags: prefer the environment or the file.",
            types.API_KEY,
            _INITIALIZE,
            secret=True,
        ),
    ] = None
    encryption_key: Annotated[
        tuple[bytes, ...] | None,
        _setting(
            "Key that encrypts the signing secrets of listeners, such as the output of `openssl rand "
            "-base64 32`. If there are several, `discue rotate-key` re-encrypts everything with the "
            "first; the others only decrypt. All servers need all keys. Other users of the machine can "
            "read flags: prefer the environment or a file.",
            types.ENCRYPTION_KEYS,
            _ENCRYPT,
            secret=True,
        ),
    ] = None
    encryption_key_file: Annotated[
        Path | None,
        _setting(
            "File with encryption keys, one per line, instead of `encryption_key`. Without either, SQLite "
            "uses a file next to the database, with the suffix `.key`, which is created at the first "
            "start; PostgreSQL stores signing secrets unencrypted.",
            types.FILE,
            _ENCRYPT,
        ),
    ] = None
    organization: Annotated[
        str,
        _setting(
            "Alias of the operator's organization, which is created if the database is empty.",
            types.ORGANIZATION,
            _INITIALIZE,
        ),
    ] = "local.discue.operator"
    log_format: Annotated[
        Literal["text", "json"],
        _setting("Format of log lines.", types.one_of("text", "json"), _ALL),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _setting(
            "Minimum level of log lines.",
            types.one_of("debug", "info", "warning", "error"),
            _ALL,
        ),
    ] = "info"
    log_requests: Annotated[bool, _setting("Log every request.", types.BOOLEAN)] = False
    max_message_bytes: Annotated[
        int,
        _setting(
            "Maximum size of a message's data, in bytes. Queues can override it.", types.integer(1, 8 * _MEBIBYTE)
        ),
    ] = 262_144
    retention_seconds: Annotated[
        int,
        _setting(
            "How long a message is kept after every listener has settled it, in seconds. Queues can override it.",
            types.integer(0, _CENTURY),
        ),
    ] = 7 * _DAY
    missed_retention_seconds: Annotated[
        int, _setting("How long a missed message is kept, in seconds.", types.integer(0, _CENTURY))
    ] = 14 * _DAY
    attempt_retention_seconds: Annotated[
        int, _setting("How long the record of an attempt is kept, in seconds.", types.integer(0, _CENTURY))
    ] = 3 * _DAY
    attempt_details: Annotated[
        AttemptDetailLevel,
        _setting(
            "Which attempts keep full request and response details: all, failures or none.",
            types.one_of("all", "failures", "none"),
        ),
    ] = "failures"
    delivery_deadline_seconds: Annotated[
        int,
        _setting("Time after which a message that is not settled is missed, in seconds.", types.integer(60, _CENTURY)),
    ] = 30 * _DAY
    max_in_flight: Annotated[
        int,
        _setting("Maximum deliveries in flight per worker.", types.integer(1, 100_000)),
    ] = 1024
    listener_max_in_flight: Annotated[
        int,
        _setting("Maximum deliveries in flight per listener. Listeners can override it.", types.integer(1, 4096)),
    ] = 50
    delivery_timeout_seconds: Annotated[
        int,
        _setting(
            "Timeout of a delivery attempt, response body included, in seconds. Listeners can override it.",
            types.integer(1, 3600),
        ),
    ] = 15
    connect_timeout_seconds: Annotated[
        int, _setting("Timeout of DNS, TCP and TLS when connecting to a listener, in seconds.", types.integer(1, 3600))
    ] = 5
    disable_after_seconds: Annotated[
        int,
        _setting(
            "Time without a successful attempt after which a failing listener is disabled, in seconds; 0 "
            "for never. It runs from a failure that is followed by another one 12 to 24 hours later.",
            types.integer(0, _CENTURY),
        ),
    ] = 5 * _DAY
    drain_timeout_seconds: Annotated[
        int,
        _setting(
            "How long to wait for requests in flight after SIGTERM, in seconds.",
            types.integer(0, 3600),
        ),
    ] = 20
    lease_seconds: Annotated[
        int,
        _setting(
            "Time after which other workers take over the deliveries of an unresponsive worker, in seconds.",
            types.integer(1, 300),
            _SERVE,
        ),
    ] = 10
    max_waiting_bytes: Annotated[
        int,
        _setting(
            "Maximum bytes of requests that wait to be stored. Beyond it, publishing returns `503`.",
            types.integer(_MEBIBYTE, _MAX_BUFFER),
        ),
    ] = 64 * _MEBIBYTE
    tail_buffer_bytes: Annotated[
        int,
        _setting(
            "Size of the memory buffer of the newest messages, which deliveries read, in bytes.",
            types.integer(_MEBIBYTE, _MAX_BUFFER),
        ),
    ] = 64 * _MEBIBYTE
    request_body_timeout_seconds: Annotated[
        int,
        _setting("Timeout for receiving the body of a request, in seconds.", types.integer(1, 3600)),
    ] = 30
    max_connections: Annotated[
        int,
        _setting("Maximum open client connections, including idle ones.", types.integer(1, 1_000_000)),
    ] = 10_000
    rate_limit: Annotated[
        int,
        _setting(
            "Maximum requests per minute and API key, over all workers; 0 for no limit. Organizations can override it.",
            types.integer(0, 2_147_483_647),
        ),
    ] = 60_000
    address_rate_limit: Annotated[
        int,
        _setting(
            "Maximum requests per minute and client address without a valid API key; 0 for no limit.",
            types.integer(0, 2_147_483_647),
        ),
    ] = 60_000
    quota_queues: Annotated[
        int | None,
        _setting("Maximum queues of an organization. Organizations can override it.", types.integer(0, 100_000)),
    ] = None
    quota_listeners: Annotated[
        int | None,
        _setting(
            "Maximum listeners of an organization. Organizations can override it.",
            types.integer(0, 100_000),
        ),
    ] = None
    quota_messages_a_day: Annotated[
        int | None,
        _setting(
            "Maximum messages that an organization can publish per day (UTC). Organizations can override it.",
            types.integer(0, 1_000_000_000_000),
        ),
    ] = None
    quota_bytes_stored: Annotated[
        int | None,
        _setting(
            "Maximum bytes of stored messages of an organization. Organizations can override it.",
            types.integer(0, 1_000_000_000_000_000),
        ),
    ] = None

    @property
    def database_path(self) -> Path | None:
        """Path of the SQLite database; None for PostgreSQL."""
        if not self.database.startswith(types.SQLITE_PREFIX):
            return None
        return Path(self.database.removeprefix(types.SQLITE_PREFIX))

    @property
    def database_shown(self) -> str:
        """URL of the database without its password, for logs and messages."""
        return types.show_database(self.database)

    @property
    def default_quotas(self) -> Quotas:
        """Quotas of organizations that have none of their own."""
        return Quotas(
            queues=self.quota_queues,
            listeners=self.quota_listeners,
            messages_a_day=self.quota_messages_a_day,
            bytes_stored=self.quota_bytes_stored,
        )

    @property
    def has_tls(self) -> bool:
        return self.tls_self_signed or self.tls_cert is not None

    @property
    def is_loopback(self) -> bool:
        """Whether the service listens on a loopback address."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"

    def __repr__(self) -> str:
        shown = ", ".join(f"{setting.name}={setting.show(getattr(self, setting.name))}" for setting in SETTINGS)
        return f"Settings({shown})"


@dataclass(frozen=True, slots=True)
class Setting:
    """The definition of one setting."""

    name: str
    type: SettingType
    default: object
    help: str
    secret: bool
    commands: tuple[Command, ...]
    """Commands that accept it as a flag."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "DISCUE_" + self.name.upper()

    def show(self, value: object) -> str:
        """Return a value without secrets."""
        return "[secret]" if self.secret and value is not None else repr(self.type.shown(value))


def _table() -> tuple[Setting, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    settings = []
    for field in fields(Settings):
        definition: _Definition = hints[field.name].__metadata__[0]
        settings.append(
            Setting(
                field.name,
                definition.type,
                field.default,
                definition.help,
                definition.secret,
                definition.commands,
            )
        )
    return tuple(settings)


SETTINGS: tuple[Setting, ...] = _table()


class Constraint(NamedTuple):
    """A rule about several settings that are valid on their own."""

    names: tuple[str, ...]
    """The settings that it is about."""
    is_broken: Callable[[Settings], bool]
    detail: str


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint(
        ("tls_cert", "tls_key"),
        lambda settings: (settings.tls_cert is None) != (settings.tls_key is None),
        "set both tls_cert and tls_key, or neither",
    ),
    Constraint(
        ("encryption_key", "encryption_key_file"),
        lambda settings: settings.encryption_key is not None and settings.encryption_key_file is not None,
        "set either encryption_key or encryption_key_file, not both",
    ),
    Constraint(
        ("tls_self_signed", "tls_cert"),
        lambda settings: settings.tls_self_signed and settings.tls_cert is not None,
        "set either tls_self_signed or tls_cert, not both",
    ),
    Constraint(
        ("host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (settings.is_loopback or settings.has_tls or settings.insecure),
        "cleartext is allowed on loopback only; set tls_cert and tls_key, or tls_self_signed, or set insecure behind a "
        "proxy that terminates TLS",
    ),
)

__all__ = ["CONSTRAINTS", "SETTINGS", "Command", "Constraint", "Network", "Networks", "Setting", "Settings"]
