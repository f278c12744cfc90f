"""Settings. Flags, environment variables, the TOML file and the documentation are derived from these definitions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from discue.config import types
from discue.config.types import Network, Networks, SettingType, reachable
from discue.domain.attempts import AttemptDetailLevel
from discue.domain.egress import EgressProxy
from discue.domain.quotas import NAMES, Quotas, setting_of

Command = Literal[
    "serve",
    "dev",
    "demo",
    "init",
    "keys",
    "organizations",
    "users",
    "unlock",
    "migrate",
    "copy",
    "rotate-key",
    "check",
    "backup",
    "restore",
    "systemd",
]

# `check` accepts the settings of `serve`, which it validates without starting anything.
_SERVE: tuple[Command, ...] = ("serve", "check")
_RUN: tuple[Command, ...] = ("serve", "dev", "check")
_LISTEN: tuple[Command, ...] = (*_RUN, "demo")
_INITIALIZE: tuple[Command, ...] = ("serve", "dev", "init", "check")
_ENCRYPT: tuple[Command, ...] = ("serve", "dev", "init", "copy", "rotate-key", "check")
_OPEN_DATABASE: tuple[Command, ...] = (
    *_INITIALIZE,
    "keys",
    "organizations",
    "users",
    "unlock",
    "migrate",
    "rotate-key",
    "backup",
)
_ALL: tuple[Command, ...] = (*_OPEN_DATABASE, "demo", "copy", "restore")

VARIABLE_PREFIX = "DISCUE_"

_DAY = 86_400
_MEBIBYTE = 1_048_576
_CENTURY = 100 * 365 * _DAY
_MAX_BUFFER = 64 * 1024 * _MEBIBYTE

_Value = TypeVar("_Value")


def _setting(
    default: _Value,
    help_text: str,
    setting_type: SettingType | None = None,
    *,
    commands: tuple[Command, ...] = _RUN,
    secret: bool = False,
) -> _Value:
    """Define a setting. Without `setting_type`, its type is that of the annotation."""
    metadata = {"type": setting_type, "help": help_text, "commands": commands, "secret": secret}
    return field(default=default, metadata=metadata)


def _quota(default: int | None, what: str) -> int | None:
    help_text = f"Maximum {what} of an organization. Organizations can override it."
    return _setting(default, help_text, types.integer(0, 100_000))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Settings:
    """The validated settings of a process. The repr shows no secrets."""

    database: str = _setting(
        "sqlite:///discue.db",
        "The database: a SQLite file (not on a network filesystem) or a PostgreSQL URL, which may name several hosts "
        "(`host1:5432,host2:5432`) and parameters (`?sslmode=verify-full`, `?host=/run/postgresql`). Other users of "
        "the machine can read flags: set a password in the environment, in the file, with `PGPASSWORD` or "
        "`PGPASSFILE`, or in `~/.pgpass`.",
        types.DATABASE,
        commands=(*_OPEN_DATABASE, "demo"),
    )
    host: str = _setting(
        "127.0.0.1",
        "Address to listen on. Addresses other than loopback require TLS, or `insecure`.",
        types.HOST,
        commands=_LISTEN,
    )
    port: int = _setting(3000, "Port to listen on; 0 for a free one.", types.integer(0, 65_535), commands=_LISTEN)
    workers: int = _setting(
        1, "Number of worker processes, which share the port.", types.integer(1, 64), commands=_SERVE
    )
    role: Literal["all", "api", "dispatch"] = _setting(
        "all",
        "Whether the process serves the API, delivers messages, or both. An installation needs processes for both.",
        commands=_SERVE,
    )
    tls_cert: Path | None = _setting(
        None, "PEM file with the certificate and its intermediate certificates. Requires `tls_key`.", commands=_SERVE
    )
    tls_key: Path | None = _setting(
        None, "PEM file with the private key of the certificate. Requires `tls_cert`.", commands=_SERVE
    )
    tls_self_signed: bool = _setting(
        False, "Serve TLS with a self-signed certificate, created at each start. For testing.", commands=_SERVE
    )
    public_url: str | None = _setting(
        None,
        "Base URL of links. Without it, links in responses use the scheme and host of the request; invitations, portal "
        "sessions and identity providers use the address that the service listens on.",
        types.PUBLIC_URL,
    )
    dashboard: bool = _setting(True, "Serve the dashboard at `/dashboard`, where browsers that open `/` are led.")
    dashboard_port: int | None = _setting(
        None,
        "Port that serves the dashboard and the documentation, instead of `port` serving the dashboard; 0 for a free "
        "one.",
        types.integer(0, 65_535),
        commands=_SERVE,
    )
    dashboard_host: str = _setting(
        "127.0.0.1",
        "Address of `dashboard_port`. Addresses other than loopback require TLS, or `insecure`.",
        types.HOST,
        commands=_SERVE,
    )
    dashboard_url: str | None = _setting(
        None,
        "Base URL of links to the dashboard, if it has a port of its own. Without it, links use `dashboard_host` and "
        "`dashboard_port`.",
        types.PUBLIC_URL,
    )
    portal: bool = _setting(
        True, "Serve the portal at `/portal`, where customers of an organization manage their own listeners."
    )
    insecure: bool = _setting(
        False, "Allow cleartext HTTP on addresses other than loopback, behind a proxy that terminates TLS."
    )
    trusted_proxies: Networks = _setting(
        (),
        "Networks of proxies whose `Forwarded` and `X-Forwarded-For` headers are trusted. Clients behind other "
        "proxies share the proxy's address, its rate limit and its lockouts.",
    )
    allow_private_targets: bool | Networks = _setting(
        False,
        "Allow listeners at private addresses: all of them, or only those in some networks.",
        types.BOOLEAN_OR_NETWORKS,
    )
    show_private_responses: bool = _setting(
        False,
        "Show the responses of listeners at private addresses in attempts and test deliveries. Without it, clients see "
        "only the kind of outcome and the class of the status.",
    )
    egress_proxy: EgressProxy | None = _setting(
        None,
        "HTTP proxy that requests to listeners, probes and providers go through. It resolves and checks host names, so "
        "it must refuse internal addresses. Other users of the machine can read flags: set a password in the "
        "environment or the file.",
        types.EGRESS_PROXY,
        secret=True,
    )
    no_proxy: tuple[Network | str, ...] = _setting(
        (), "Hosts that are reached without `egress_proxy`: names with their subdomains, and networks.", types.HOSTS
    )
    bootstrap_key: str | None = _setting(
        None,
        "First API key of the operator's organization, instead of a random one that is printed once. Other users of "
        "the machine can read flags: prefer the environment or the file.",
        types.API_KEY,
        commands=_INITIALIZE,
        secret=True,
    )
    encryption_key: tuple[bytes, ...] | None = _setting(
        None,
        "Key that encrypts the signing secrets of listeners, such as the output of `openssl rand -base64 32`. If "
        "there are several, `discue rotate-key` re-encrypts everything with the first; the others only decrypt. All "
        "servers need all keys. Other users of the machine can read flags: prefer the environment or a file.",
        types.ENCRYPTION_KEYS,
        commands=_ENCRYPT,
        secret=True,
    )
    encryption_key_file: Path | None = _setting(
        None,
        "File with encryption keys, one per line, instead of `encryption_key`. Without either, SQLite uses a file "
        "next to the database, with the suffix `.key`, which is created at the first start; on PostgreSQL, `serve` "
        "does not start.",
        commands=_ENCRYPT,
    )
    encryption: Literal["required", "none"] = _setting(
        "required",
        "Whether signing secrets and credentials must be encrypted. `none` stores them in clear text if no key is "
        "configured, and creates none.",
        commands=_ENCRYPT,
    )
    identity_providers: Path | None = _setting(
        None, "TOML file with the OpenID Connect providers whose users may sign in to the dashboard."
    )
    organization: str = _setting(
        "local.discue.operator",
        "Alias of the operator's organization, which is created if the database is empty.",
        types.ORGANIZATION,
        commands=_INITIALIZE,
    )
    metrics_port: int | None = _setting(
        None,
        "Port of `GET /metrics`, in the formats of Prometheus and OpenMetrics; 0 for a free one. Without it, only "
        "`metrics_key` gives access to the metrics.",
        types.integer(0, 65_535),
        commands=_SERVE,
    )
    metrics_host: str = _setting(
        "127.0.0.1",
        "Address of `metrics_port`. Addresses other than loopback require `metrics_key`.",
        types.HOST,
        commands=_SERVE,
    )
    metrics_key: str | None = _setting(
        None,
        "Key for `GET /metrics`, on `metrics_port` and on the port of the API, to be sent as `Authorization: Bearer`. "
        "Without it, the port of the API has no metrics. Other users of the machine can read flags: prefer the "
        "environment or the file.",
        types.METRICS_KEY,
        commands=_SERVE,
        secret=True,
    )
    heartbeat_url: str | None = _setting(
        None,
        "URL that each worker requests every minute while it can write to the database: of a monitor that alerts when "
        "no request comes.",
        types.MONITOR_URL,
        commands=_SERVE,
        secret=True,
    )
    log_format: Literal["text", "json"] = _setting("text", "Format of log lines.", commands=_ALL)
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Minimum level of log lines.", commands=_ALL
    )
    log_requests: bool = _setting(False, "Log every request.")
    max_message_bytes: int = _setting(
        262_144, "Maximum size of a message's data, in bytes. Queues can override it.", types.integer(1, 8 * _MEBIBYTE)
    )
    retention_seconds: int = _setting(
        7 * _DAY,
        "How long a message is kept after every listener has settled it, in seconds. Queues can override it.",
        types.integer(0, _CENTURY),
    )
    missed_retention_seconds: int = _setting(
        14 * _DAY, "How long a missed message is kept, in seconds.", types.integer(0, _CENTURY)
    )
    attempt_retention_seconds: int = _setting(
        3 * _DAY, "How long the record of an attempt is kept, in seconds.", types.integer(0, _CENTURY)
    )
    event_retention_seconds: int = _setting(
        90 * _DAY, "How long an event of the audit log is kept, in seconds.", types.integer(2 * _DAY, _CENTURY)
    )
    attempt_details: AttemptDetailLevel = _setting(
        "failures", "Which attempts keep full request and response details: all, failures or none."
    )
    attempt_details_bytes_per_hour: int = _setting(
        16 * _MEBIBYTE,
        "Maximum bytes of attempt details that are stored for an organization per hour.",
        types.integer(0, 1_000_000_000_000),
    )
    delivery_deadline_seconds: int = _setting(
        30 * _DAY, "Time after which a message that is not settled is missed, in seconds.", types.integer(60, _CENTURY)
    )
    max_in_flight: int = _setting(1024, "Maximum deliveries in flight per worker.", types.integer(1, 100_000))
    listener_max_in_flight: int = _setting(
        50, "Maximum deliveries in flight per listener. Listeners can override it.", types.integer(1, 1000)
    )
    delivery_timeout_seconds: int = _setting(
        15,
        "Timeout of a delivery attempt, response body included, in seconds. Listeners can override it.",
        types.integer(1, 300),
    )
    connect_timeout_seconds: int = _setting(
        5, "Timeout of DNS, TCP and TLS when connecting to a listener, in seconds.", types.integer(1, 3600)
    )
    disable_after_seconds: int = _setting(
        5 * _DAY,
        "Time without a successful attempt after which a failing listener is disabled, in seconds; 0 for never. It "
        "runs from a failure that is followed by another one 12 to 24 hours later.",
        types.integer(0, _CENTURY),
    )
    drain_timeout_seconds: int = _setting(
        20, "How long to wait for requests in flight after SIGTERM, in seconds.", types.integer(0, 3600)
    )
    lease_seconds: int = _setting(
        10,
        "Time after which other workers take over the deliveries of an unresponsive worker, in seconds.",
        types.integer(1, 300),
        commands=_SERVE,
    )
    max_waiting_bytes: int = _setting(
        64 * _MEBIBYTE,
        "Maximum bytes of requests that wait to be stored. Beyond it, publishing returns `503`.",
        types.integer(_MEBIBYTE, _MAX_BUFFER),
    )
    tail_buffer_bytes: int = _setting(
        64 * _MEBIBYTE,
        "Size of the memory buffer of the newest messages, which deliveries read, in bytes.",
        types.integer(_MEBIBYTE, _MAX_BUFFER),
    )
    max_unread_bytes: int = _setting(
        64 * _MEBIBYTE,
        "Maximum memory for reads and unread responses, in bytes; an organization gets at most as much as is free. "
        "Requests beyond it wait, and connections with the oldest unread responses are closed.",
        types.integer(_MEBIBYTE, _MAX_BUFFER),
    )
    request_body_timeout_seconds: int = _setting(
        30, "Timeout for receiving the body of a request, in seconds.", types.integer(1, 3600)
    )
    max_connections: int = _setting(
        10_000, "Maximum open client connections, including idle ones.", types.integer(1, 1_000_000)
    )
    rate_limit: int = _setting(
        600_000,
        "Maximum requests per minute and API key, over all workers; 0 for no limit. All keys of an organization "
        "together can make four times as many. Organizations can override it; the operator's own has no limit.",
        types.integer(0, 2_147_483_647),
    )
    address_rate_limit: int = _setting(
        60_000,
        "Maximum requests per minute and client address without a valid API key; 0 for no limit.",
        types.integer(0, 2_147_483_647),
    )
    tenant_organizations: int = _setting(
        0,
        "Maximum organizations that each tenant can create; 0: only the operator creates organizations. They share the "
        "tenant's limits, quotas and suspension.",
        types.integer(0, 100),
    )
    quota_queues: int | None = _quota(None, "queues")
    quota_listeners: int | None = _quota(None, "listeners")
    quota_topics: int | None = _quota(1_000, "topics")
    quota_domains: int | None = _quota(100, "domains")
    quota_api_keys: int | None = _quota(1_000, "API keys")
    quota_users: int | None = _quota(1_000, "users")
    quota_portal_sessions: int | None = _quota(10_000, "open portal sessions")
    quota_creations_a_day: int | None = _setting(
        100_000,
        "Maximum resources that an organization can create per day (UTC), including redeliveries, replays and portal "
        "sessions. Organizations can override it.",
        types.integer(0, 1_000_000_000),
    )
    quota_messages_a_day: int | None = _setting(
        None,
        "Maximum messages that an organization can publish per day (UTC). Organizations can override it.",
        types.integer(0, 1_000_000_000_000),
    )
    quota_bytes_stored: int | None = _setting(
        None,
        "Maximum bytes of stored messages, schedules and responses of an organization. Organizations can override it.",
        types.integer(0, 1_000_000_000_000_000),
    )

    backup_to: str | None = _setting(
        None,
        "Existing folder for backups of a SQLite database, best on another machine's disk, or `s3://bucket/prefix`, "
        "with the variables `AWS_…` in the environment. Without it, `serve` makes none.",
        types.BACKUP_DESTINATION,
        commands=_SERVE,
    )
    backup_every: float = _setting(
        float(_DAY), "Time between two backups, such as 10m or 1d.", types.DURATION, commands=_SERVE
    )
    backup_keep: float | None = _setting(
        None,
        "Age from which backups are deleted, such as 7d. Without it, `serve` deletes none. The newest one is kept.",
        types.DURATION,
        commands=_SERVE,
    )
    backup_key_file: Path | None = _setting(
        None,
        "File with a key of 32 bytes in base64, which encrypts backups. Keep a copy where the backups are not.",
        commands=_SERVE,
    )

    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The flag, variable or line of the file that each setting comes from. Settings with their default are absent."""

    @property
    def database_path(self) -> Path | None:
        """Path of the SQLite database; None for PostgreSQL."""
        if not self.database.startswith(types.SQLITE_PREFIX):
            return None
        return Path(self.database.removeprefix(types.SQLITE_PREFIX))

    @property
    def database_shown(self) -> str:
        """URL of the database without its password, for logs and messages."""
        return types.without_password(self.database)

    @property
    def default_quotas(self) -> Quotas:
        """Quotas of organizations that have none of their own."""
        return Quotas(**{name: getattr(self, setting_of(name)) for name in NAMES})

    @property
    def service_url(self) -> str:
        """The URL of the service: `public_url`, or the address that it listens on."""
        return self.service_url_on(self.port)

    def service_url_on(self, port: int | str) -> str:
        """Return the URL of the service. `port` is the port that it listens on: the setting may be 0."""
        return self.public_url.rstrip("/") if self.public_url else self.url_at(self.host, port)

    def dashboard_root(self, root: str) -> str:
        """Return the URL in front of `/dashboard`. `root` is that of the service, as the client sees it."""
        if self.dashboard_port is None:
            return root
        url = self.dashboard_url
        return url.rstrip("/") if url else self.url_at(self.dashboard_host, self.dashboard_port)

    def url_at(self, host: str, port: int | str) -> str:
        """Return the URL of a server of this process that listens on a host and a port."""
        shown = reachable(host)
        return f"{'https' if self.has_tls else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{port}"

    @property
    def has_tls(self) -> bool:
        return self.tls_self_signed or self.tls_cert is not None

    def __repr__(self) -> str:
        # Not the repr of the dataclass, which would show keys and passwords in a traceback.
        shown = ", ".join(f"{setting.name}={setting.show(getattr(self, setting.name))}" for setting in SETTINGS)
        return f"Settings({shown})"


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    type: SettingType
    default: object
    help: str
    secret: bool
    commands: tuple[Command, ...]
    """Commands that accept it as a flag."""
    group: str
    """Heading of `--help` and of the documentation that it is shown under."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    def show(self, value: object) -> str:
        """Return a value without secrets."""
        return "[secret]" if self.secret and value is not None else repr(self.type.shown(value))


_FIRST_OF_GROUP = {
    "database": "database",
    "host": "network and processes",
    "allow_private_targets": "access and encryption",
    "metrics_port": "metrics and log",
    "max_message_bytes": "storage",
    "delivery_deadline_seconds": "delivery",
    "max_waiting_bytes": "limits",
    "quota_queues": "default quotas",
    "backup_to": "backup",
}
"""The first setting of each group. A group goes up to the next one, in the order of the definitions."""


def _type_of(annotation: Any) -> SettingType:
    if get_origin(annotation) is Literal:
        return types.one_of(*get_args(annotation))
    return {bool: types.BOOLEAN, Path | None: types.FILE, Networks: types.NETWORKS}[annotation]


def _definitions() -> Iterator[Setting]:
    group = ""
    for each in fields(Settings):
        if not each.metadata:
            continue
        group = _FIRST_OF_GROUP.get(each.name, group)
        given = {**each.metadata, "type": each.metadata["type"] or _type_of(each.type)}
        yield Setting(name=each.name, default=each.default, group=group, **given)


SETTINGS: tuple[Setting, ...] = tuple(_definitions())
