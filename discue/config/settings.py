"""Every setting of the service, as data: flags, environment, TOML file and documentation follow from it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_type_hints

from discue.config import types as kinds
from discue.config.types import Network, Networks, SettingType
from discue.domain.attempt_trace import AttemptDetailLevel
from discue.domain.quotas import Quotas

Command = Literal["serve", "dev", "init", "keys", "organizations", "unlock", "migrate", "copy", "rotate-key", "check"]

_SERVING: tuple[Command, ...] = ("serve", "check")
_RUNNING: tuple[Command, ...] = ("serve", "dev", "check")
_FOUNDING: tuple[Command, ...] = ("serve", "dev", "init", "check")
_SEALING: tuple[Command, ...] = ("serve", "dev", "init", "copy", "rotate-key", "check")
_OPENING: tuple[Command, ...] = (*_FOUNDING, "keys", "organizations", "unlock", "migrate", "rotate-key")
_ALL: tuple[Command, ...] = (*_OPENING, "copy")

_DAY = 86_400
_MEBIBYTE = 1_048_576
_YEARS = 100 * 365 * _DAY
_GIBIBYTES = 64 * 1024 * _MEBIBYTE


class _About(NamedTuple):
    help: str
    kind: SettingType
    commands: tuple[Command, ...]
    secret: bool


def _about(
    meaning: str, kind: SettingType, commands: tuple[Command, ...] = _RUNNING, *, secret: bool = False
) -> _About:
    return _About(meaning, kind, commands, secret)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Settings:
    """What the operator decided, checked. Its repr shows no secret."""

    database: Annotated[
        str,
        _about(
            "Where everything is kept: a file of SQLite, or a database of PostgreSQL. Of a file, three slashes begin a "
            "path relative to the working directory, four an absolute one; not on a network filesystem. A database's "
            "address may name several hosts (`host1:5432,host2:5432`) and parameters (`?sslmode=verify-full`, "
            "`?host=/run/postgresql`). Its password is never shown; other users of a machine can read flags, so prefer "
            "the environment or the file for it, or leave it out: then `PGPASSWORD` says it, or the file that "
            "`PGPASSFILE` names, or `~/.pgpass`.",
            kinds.DATABASE,
            _OPENING,
        ),
    ] = "sqlite:///discue.db"
    host: Annotated[
        str,
        _about(
            "The address to listen on. Anything but loopback needs TLS, or `insecure`.",
            kinds.HOST,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, _about("The port to listen on; 0 takes one that is free.", kinds.whole(0, 65_535))] = 3000
    workers: Annotated[int, _about("How many processes serve, on one port.", kinds.whole(1, 64), _SERVING)] = 1
    role: Annotated[
        Literal["all", "api", "dispatch"],
        _about(
            "What its processes do: answer the API, deliver messages, or both. What one part of an installation only "
            "stores, another part on the same database must deliver.",
            kinds.one_of("all", "api", "dispatch"),
            _SERVING,
        ),
    ] = "all"
    tls_cert: Annotated[
        Path | None,
        _about("The certificate in PEM form, with the chain above it. Needs `tls_key`.", kinds.FILE, _SERVING),
    ] = None
    tls_key: Annotated[
        Path | None,
        _about("The certificate's private key in PEM form. Needs `tls_cert`.", kinds.FILE, _SERVING),
    ] = None
    tls_self_signed: Annotated[
        bool,
        _about("Make a certificate at each start and serve TLS with it, for trying out.", kinds.YES_OR_NO, _SERVING),
    ] = False
    public_url: Annotated[
        str | None,
        _about(
            "The URL that clients know this service by. Links begin with it; without it, with the scheme and "
            "host of the request.",
            kinds.PUBLIC_URL,
        ),
    ] = None
    insecure: Annotated[
        bool,
        _about("Serve cleartext beyond loopback, behind a proxy that speaks TLS.", kinds.YES_OR_NO),
    ] = False
    trusted_proxies: Annotated[
        Networks,
        _about(
            "Networks of proxies whose `Forwarded` and `X-Forwarded-For` say where a client is. Behind any other one "
            "all clients have its address, and are locked out together.",
            kinds.NETWORKS,
        ),
    ] = ()
    allow_private_targets: Annotated[
        bool | Networks,
        _about(
            "Whether listeners may be at addresses that are not public: none, all, or some networks.",
            kinds.YES_OR_NETWORKS,
        ),
    ] = False
    bootstrap_key: Annotated[
        str | None,
        _about(
            "The first key of the operator's organization, instead of a random one that is printed once. "
            "Prefer the environment or the file: other users of a machine can read flags.",
            kinds.API_KEY,
            _FOUNDING,
            secret=True,
        ),
    ] = None
    encryption_key: Annotated[
        tuple[bytes, ...] | None,
        _about(
            "The key under which listeners' signing secrets are encrypted: `openssl rand -base64 32` makes one. Of "
            "several, the first is the one that `discue rotate-key` moves everything to; the others open what is "
            "older. All servers need all of them. Prefer the environment or a file: other users of a machine can read "
            "flags.",
            kinds.ENCRYPTION_KEYS,
            _SEALING,
            secret=True,
        ),
    ] = None
    encryption_key_file: Annotated[
        Path | None,
        _about(
            "A file with such keys, one a line, instead of `encryption_key`. Without either, a database of SQLite has "
            "one beside it, named as it with `.key` behind, which is made at the first start; in PostgreSQL, signing "
            "secrets stand in the clear.",
            kinds.FILE,
            _SEALING,
        ),
    ] = None
    organization: Annotated[
        str,
        _about(
            "The alias of the operator's organization, made when the database is empty.",
            kinds.ORGANIZATION,
            _FOUNDING,
        ),
    ] = "local.discue.operator"
    log_format: Annotated[
        Literal["text", "json"],
        _about("How a line of the log is written.", kinds.one_of("text", "json"), _ALL),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _about(
            "The least important lines that are written.",
            kinds.one_of("debug", "info", "warning", "error"),
            _ALL,
        ),
    ] = "info"
    log_requests: Annotated[bool, _about("Write a line for each request that is answered.", kinds.YES_OR_NO)] = False
    max_message_bytes: Annotated[
        int,
        _about("How large a message's data may be. A queue's own setting wins.", kinds.whole(1, 8 * _MEBIBYTE)),
    ] = 262_144
    retention_seconds: Annotated[
        int,
        _about(
            "How long a message is kept once every listener has settled it. A queue's own setting wins.",
            kinds.whole(0, _YEARS),
        ),
    ] = 7 * _DAY
    missed_retention_seconds: Annotated[int, _about("How long a missed message is kept.", kinds.whole(0, _YEARS))] = (
        14 * _DAY
    )
    attempt_retention_seconds: Annotated[
        int, _about("How long the record of an attempt is kept.", kinds.whole(0, _YEARS))
    ] = 3 * _DAY
    attempt_details: Annotated[
        AttemptDetailLevel,
        _about(
            "Of which attempts is kept, as long as the record itself, what was sent, what was answered, and how long "
            "each stage took: of all, of those that failed, or of none.",
            kinds.one_of("all", "failures", "none"),
        ),
    ] = "failures"
    delivery_deadline_seconds: Annotated[
        int,
        _about("A message that a listener has not settled by then is missed.", kinds.whole(60, _YEARS)),
    ] = 30 * _DAY
    max_in_flight: Annotated[
        int,
        _about("How many deliveries may be in flight at once, in all.", kinds.whole(1, 100_000)),
    ] = 1024
    listener_max_in_flight: Annotated[
        int,
        _about("How many deliveries to one listener may be in flight at once.", kinds.whole(1, 4096)),
    ] = 50
    delivery_timeout_seconds: Annotated[
        int,
        _about("How long an attempt may take, the body of the answer included.", kinds.whole(1, 3600)),
    ] = 15
    connect_timeout_seconds: Annotated[
        int, _about("How long connecting to a listener may take, TLS included.", kinds.whole(1, 3600))
    ] = 5
    disable_after_seconds: Annotated[
        int,
        _about(
            "A listener whose attempts have all failed for so long, some of them at least 12 hours apart, is "
            "disabled; 0 for never.",
            kinds.whole(0, _YEARS),
        ),
    ] = 5 * _DAY
    drain_timeout_seconds: Annotated[
        int,
        _about(
            "How long what is in flight may go on after SIGTERM, before it is left to the next start.",
            kinds.whole(0, 3600),
        ),
    ] = 20
    lease_seconds: Annotated[
        int,
        _about(
            "How long a worker that falls silent keeps what it delivers, before the others take it over.",
            kinds.whole(1, 300),
            _SERVING,
        ),
    ] = 10
    max_waiting_bytes: Annotated[
        int,
        _about(
            "How much may wait for the store to take it. Beyond this, publishing is answered `503`.",
            kinds.whole(_MEBIBYTE, _GIBIBYTES),
        ),
    ] = 64 * _MEBIBYTE
    tail_buffer_bytes: Annotated[
        int,
        _about(
            "How much of the newest messages is kept in memory for deliveries.",
            kinds.whole(_MEBIBYTE, _GIBIBYTES),
        ),
    ] = 64 * _MEBIBYTE
    request_body_timeout_seconds: Annotated[
        int,
        _about("How long the body of a request may take to arrive.", kinds.whole(1, 3600)),
    ] = 30
    max_connections: Annotated[
        int,
        _about("How many connections of clients may be open at once, idle ones too.", kinds.whole(1, 1_000_000)),
    ] = 10_000
    rate_limit: Annotated[
        int,
        _about(
            "How many requests an API key may make a minute, over all workers; 0 for any number. An organization's own "
            "setting wins.",
            kinds.whole(0, 2_147_483_647),
        ),
    ] = 60_000
    address_rate_limit: Annotated[
        int,
        _about(
            "How many requests without a valid API key may come from one address a minute; 0 for any number.",
            kinds.whole(0, 2_147_483_647),
        ),
    ] = 60_000
    quota_queues: Annotated[
        int | None,
        _about("How many queues an organization may have. Its own quota wins.", kinds.whole(0, 100_000)),
    ] = None
    quota_listeners: Annotated[
        int | None,
        _about(
            "How many listeners an organization may have, on all its queues. Its own quota wins.",
            kinds.whole(0, 100_000),
        ),
    ] = None
    quota_messages_a_day: Annotated[
        int | None,
        _about(
            "How many messages an organization may publish a day, by UTC. Its own quota wins.",
            kinds.whole(0, 1_000_000_000_000),
        ),
    ] = None
    quota_bytes_stored: Annotated[
        int | None,
        _about(
            "How many bytes of messages may be kept for an organization. Its own quota wins.",
            kinds.whole(0, 1_000_000_000_000_000),
        ),
    ] = None

    @property
    def database_path(self) -> Path | None:
        """The file of the embedded store; None where a PostgreSQL server keeps everything."""
        if not self.database.startswith(kinds.SQLITE_PREFIX):
            return None
        return Path(self.database.removeprefix(kinds.SQLITE_PREFIX))

    @property
    def database_shown(self) -> str:
        """Where everything is kept, without the password to it: what logs and messages show."""
        return kinds.show_database(self.database)

    @property
    def has_tls(self) -> bool:
        return self.tls_self_signed or self.tls_cert is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach what is served."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"

    def __repr__(self) -> str:
        shown = ", ".join(f"{setting.name}={setting.show(getattr(self, setting.name))}" for setting in SETTINGS)
        return f"Settings({shown})"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `help` is a sentence for people, `commands` are those that take it as a flag."""

    name: str
    kind: SettingType
    default: object
    help: str
    secret: bool
    commands: tuple[Command, ...]

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "DISCUE_" + self.name.upper()

    def show(self, value: object) -> str:
        """A value as the operator may see it: of a secret, only whether there is one."""
        return "[secret]" if self.secret and value is not None else repr(self.kind.shown(value))


def _table() -> tuple[Setting, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in fields(Settings):
        about: _About = hints[field.name].__metadata__[0]
        rows.append(Setting(field.name, about.kind, field.default, about.help, about.secret, about.commands))
    return tuple(rows)


SETTINGS: tuple[Setting, ...] = _table()


class Constraint(NamedTuple):
    """What must hold between settings that are each valid. `broken` tells whether it does not."""

    names: tuple[str, ...]
    broken: Callable[[Settings], bool]
    detail: str


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint(
        ("tls_cert", "tls_key"),
        lambda settings: (settings.tls_cert is None) != (settings.tls_key is None),
        "tls_cert and tls_key are given together, or neither",
    ),
    Constraint(
        ("encryption_key", "encryption_key_file"),
        lambda settings: settings.encryption_key is not None and settings.encryption_key_file is not None,
        "encryption_key and encryption_key_file exclude each other",
    ),
    Constraint(
        ("tls_self_signed", "tls_cert"),
        lambda settings: settings.tls_self_signed and settings.tls_cert is not None,
        "tls_self_signed and tls_cert exclude each other",
    ),
    Constraint(
        ("host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (settings.is_loopback or settings.has_tls or settings.insecure),
        "cleartext is served on loopback only: give tls_cert and tls_key or tls_self_signed, or say "
        "insecure behind a proxy that speaks TLS",
    ),
)

__all__ = ["CONSTRAINTS", "SETTINGS", "Command", "Constraint", "Network", "Networks", "Setting", "Settings"]


def default_quotas(settings: Settings) -> Quotas:
    """Of organizations that have none of their own."""
    return Quotas(
        queues=settings.quota_queues,
        listeners=settings.quota_listeners,
        messages_a_day=settings.quota_messages_a_day,
        bytes_stored=settings.quota_bytes_stored,
    )
