"""URLs of PostgreSQL databases: their validation, and their form without a password."""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_PREFIXES = ("postgresql://", "postgres://")

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TARGET_SESSION_ATTRS = ("any", "primary", "read-write")
_CHOICES: Mapping[str, tuple[str, ...]] = {"sslmode": _SSL_MODES, "target_session_attrs": _TARGET_SESSION_ATTRS}
# Parameters of other clients that asyncpg does not know. It would send them to the server as settings.
_UNSUPPORTED = (
    *("channel_binding", "client_encoding", "connect_timeout", "fallback_application_name", "gssencmode"),
    *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts"),
    *("pgbouncer", "replication", "require_auth", "requirepeer", "schema", "sslcertmode", "sslcompression", "sslsni"),
    "tcp_user_timeout",
)
_SECRETS = frozenset({"password", "sslpassword"})
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.%]+\]|[^\[\]:/]+)(?P<rest>:.*)?")
_PORT = re.compile(r"[0-9]{1,5}")
_INVALID_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_MAX_PORT = 65_535
_ESCAPED = "in the user name, the password and elsewhere, write %, @, :, /, ? and # as %25, %40, %3A, %2F, %3F and %23"


class InvalidDatabaseUrl(ValueError):
    """The URL is invalid. The message does not contain the URL, which may include a password."""


def is_postgres_url(text: str) -> bool:
    """Return whether the text has the scheme of a PostgreSQL URL."""
    return text.startswith(_PREFIXES)


def check_postgres_url(text: str) -> None:
    """Raise InvalidDatabaseUrl for a URL that cannot be used to connect."""
    parts, parameters = _split(text)
    hosts = _hosts(parts)
    _check_hosts(hosts.split(",") if hosts else [])
    if "host" in parameters:
        _check_hosts([host for host in parameters["host"].split(",") if not host.startswith("/")])
    _check_ports(parameters.get("port"), len((hosts or parameters.get("host", "")).split(",")))
    if not (unquote(parts.path).strip("/") or parameters.get("dbname") or parameters.get("database")):
        raise InvalidDatabaseUrl("it has no database name after the host")
    _check_parameters(parameters)


def without_password(text: str) -> str:
    """Return the URL without its password; of an invalid URL, only the scheme."""
    scheme = text.partition("://")[0]
    try:
        check_postgres_url(text)
    except InvalidDatabaseUrl:
        return f"{scheme}://…"
    parts = urlsplit(text)
    user = parts.netloc.partition("@")[0].partition(":")[0] if "@" in parts.netloc else ""
    shown = f"{scheme}://{user}{'@' if user else ''}{_hosts(parts)}{parts.path}"
    query = "&".join(pair for pair in parts.query.split("&") if unquote(pair.partition("=")[0]).lower() not in _SECRETS)
    return f"{shown}?{query}" if query else shown


def _split(text: str) -> tuple[SplitResult, dict[str, str]]:
    if not text.isprintable() or " " in text or _INVALID_PERCENT.search(text):
        raise InvalidDatabaseUrl(_ESCAPED)
    try:
        parts = urlsplit(text)
        parameters = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        # The cause would contain parts of the URL.
        raise InvalidDatabaseUrl(_ESCAPED) from None
    if "#" in text or any("@" in part for part in (_hosts(parts), parts.path, parts.query)):
        raise InvalidDatabaseUrl(_ESCAPED)
    return parts, parameters


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc


def _check_hosts(hosts: list[str]) -> None:
    for host in hosts:
        match = _HOST.fullmatch(host)
        if match is None:
            raise InvalidDatabaseUrl("a host is invalid")
        if match["rest"] is not None:
            _check_port(match["rest"][1:])


def _check_ports(ports: str | None, hosts: int) -> None:
    if ports is None:
        return
    for port in ports.split(","):
        _check_port(port)
    if len(ports.split(",")) not in (1, hosts):
        raise InvalidDatabaseUrl("it must have one port, or as many as hosts")


def _check_port(text: str) -> None:
    if _PORT.fullmatch(text) is None or not 0 < int(text) <= _MAX_PORT:
        raise InvalidDatabaseUrl("a port must be a number from 1 to 65535")


def _check_parameters(parameters: Mapping[str, str]) -> None:
    for name, choices in _CHOICES.items():
        if parameters.get(name, choices[0]) not in choices:
            raise InvalidDatabaseUrl(f"{name} must be one of {', '.join(choices)}")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise InvalidDatabaseUrl(f"the parameter {name} is not supported; remove it")
