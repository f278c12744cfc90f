"""Types of settings: how the text of a setting is parsed, and what it should be."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from discue.domain.aliases import is_organization_alias
from discue.domain.api_key import parse as parse_api_key
from discue.domain.egress import EgressProxy, parse_target
from discue.domain.errors import Unprocessable


def reachable(host: str) -> str:
    """Return the host to connect to, for a server that listens on this one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can connect to a server that listens on the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

SQLITE_PREFIX = "sqlite:///"


class InvalidValue(ValueError):
    """A value that is invalid for a specific reason, the message. It never contains the value."""


class SettingType(NamedTuple):
    expected: str
    """Description of valid values, for errors and documentation."""
    parse: Callable[[str], object]
    """Raises ValueError for an invalid text."""
    shown: Callable[[Any], object] = lambda value: value
    """Returns a value without its secrets."""
    choices: tuple[str, ...] = ()
    """The valid values, if there are only a few."""


_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_ON = frozenset({"true", "yes", "on", "1"})
_OFF = frozenset({"false", "no", "off", "0"})
# int() takes quadratic time, and Python refuses very long numbers with another error.
_MAX_DIGITS = 18
_URL_SAFE = str.maketrans("-_", "+/")


def integer(least: int, most: int) -> SettingType:
    """Return the type of integers between two bounds, both included."""

    def parse(text: str) -> int:
        # int() alone accepts blanks, underscores and the digits of every script.
        is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
        if not is_number or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return SettingType(f"an integer from {least} to {most}", parse)


def _checked(is_valid: Callable[[str], object]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        # Without the text, which may be a secret.
        if not is_valid(text):
            raise ValueError
        return text

    return parse


_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, None: 1.0}
_MAX_DURATION_SECONDS = 100 * 365 * 86_400


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 1 <= seconds <= _MAX_DURATION_SECONDS:
        raise ValueError(text)
    return seconds


def _shown_duration(seconds: float | None) -> object:
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return None if seconds is None else f"{seconds:.0f}s"


def one_of(*words: str) -> SettingType:
    """Return the type of settings with a fixed set of values."""
    return SettingType(f"{', '.join(words[:-1])} or {words[-1]}", _checked(words.__contains__), choices=words)


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in _ON | _OFF:
        raise ValueError(text)
    return word in _ON


def _networks(text: str) -> Networks:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _host(text: str) -> str:
    # A host of digits and dots is an address: `1.2.3` must not be taken for a name.
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare or bare.replace(".", "").isdecimal():
        return str(ip_address(bare))
    if _NAME.fullmatch(bare) is None:
        raise ValueError(text)
    return bare


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text)


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(text)
    # Links append a path to it, which a query or a fragment would swallow.
    if "@" in parts.netloc or "?" in text or "#" in text or not text.isprintable() or " " in text:
        raise ValueError(text)
    return text.rstrip("/")


_PATH_ONLY = re.compile(r"(?:sqlite:/{0,2})?((?=.*[./])[\w./~-]+)")
"""The path of a file, without the scheme of a URL. A path cannot contain a password."""


def _database(text: str) -> str:
    """Errors do not repeat the value, which may contain a password."""
    if is_postgres_url(text):
        try:
            check_postgres_url(text)
        except InvalidDatabaseUrl as error:
            raise InvalidValue(f"invalid database URL: {error}") from error
        return text
    if not text.startswith(SQLITE_PREFIX) or "\0" in text:
        if found := _PATH_ONLY.fullmatch(text):
            raise InvalidValue(f"it is not a URL; write {SQLITE_PREFIX}{found[1]}")
        raise InvalidValue("invalid value")
    # Each connection to a database in memory would have a database of its own.
    if text.removeprefix(SQLITE_PREFIX) in ("", "/", ":memory:"):
        raise InvalidValue("the path of the database file is missing")
    return text


def parse_encryption_key(text: str) -> bytes:
    """Return the 32 bytes of a key in standard or URL-safe base64. Errors do not repeat the text."""
    try:
        key = b64decode(text.translate(_URL_SAFE), validate=True)
    except ValueError:
        raise ValueError from None
    if len(key) != 32:
        raise ValueError
    return key


BOOLEAN = SettingType("true or false", _boolean)
NETWORKS = SettingType("networks such as 10.0.0.0/8, separated by commas", _networks)
BOOLEAN_OR_NETWORKS = SettingType(
    "true, false, or networks such as 10.0.0.0/8, separated by commas",
    lambda text: _boolean(text) if text.lower() in _ON | _OFF else _networks(text),
)
HOST = SettingType("an IP address or a host name", _host)
FILE = SettingType("the path of a file", _path)
BACKUP_DESTINATION = SettingType(
    "the path of a folder, or s3://bucket/prefix", _checked(lambda text: text not in ("", "s3://") and "\0" not in text)
)
DURATION = SettingType("a duration such as 90s, 10m, 24h or 7d", _duration, _shown_duration)
PUBLIC_URL = SettingType("an absolute http or https URL without query, fragment and credentials", _public_url)
ORGANIZATION = SettingType("a reverse domain name such as com.example.dev", _checked(is_organization_alias))
ENCRYPTION_KEYS = SettingType(
    "32 random bytes in base64, or several such keys, separated by commas",
    lambda text: tuple(parse_encryption_key(part.strip()) for part in text.split(",")),
)
API_KEY = SettingType("an API key: dsk_ and 43 to 128 letters and digits", _checked(parse_api_key))
METRICS_KEY = SettingType(
    "16 to 512 printable ASCII characters without spaces", _checked(re.compile(r"[!-~]{16,512}").fullmatch)
)


def _monitor_url(text: str) -> str:
    try:
        parse_target(text, "")
    except Unprocessable:
        # The URL is a secret, which errors do not repeat.
        raise ValueError from None
    return text


_PROXY = re.compile(r"http://(?:([^/?#@:]*:[^/?#@:]*)@)?([^/?#@]+:[0-9]+)/?", re.IGNORECASE)


def _egress_proxy(text: str) -> EgressProxy:
    """Errors do not repeat the URL, which may contain a password."""
    found = _PROXY.fullmatch(text)
    if found is None or _INVALID_PERCENT.search(text):
        raise ValueError
    target = parse_target(_monitor_url(f"http://{found[2]}"), "")
    if found[1] is None:
        return EgressProxy(target)
    return EgressProxy(target, b"proxy-authorization: Basic %b\r\n" % b64encode(unquote(found[1]).encode()))


def _names_and_networks(text: str) -> tuple[Network | str, ...]:
    return tuple(_name_or_network(part.strip().lower()) for part in text.split(",") if part.strip())


def _name_or_network(text: str) -> Network | str:
    try:
        return ip_network(text.strip("[]"))
    except ValueError:
        return _host(text.removeprefix("*").strip("."))


EGRESS_PROXY = SettingType("http://host:port or http://user:password@host:port", _egress_proxy)
HOSTS = SettingType("names, addresses and networks such as 10.0.0.0/8, separated by commas", _names_and_networks)
MONITOR_URL = SettingType("an absolute http or https URL without credentials and fragment", _monitor_url)


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "read-write"),
}
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
_ESCAPED = "in the user name, the password and elsewhere, write %, @, :, /, ? and # as %25, %40, %3A, %2F, %3F and %23"


class InvalidDatabaseUrl(ValueError):
    """The URL is invalid. The message does not contain the URL, which may include a password."""


def is_postgres_url(text: str) -> bool:
    """Return whether the text has the scheme of a PostgreSQL URL."""
    return text.startswith(("postgresql://", "postgres://"))


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
    for name, choices in _CHOICES.items():
        if parameters.get(name, choices[0]) not in choices:
            raise InvalidDatabaseUrl(f"{name} must be one of {', '.join(choices)}")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise InvalidDatabaseUrl(f"the parameter {name} is not supported; remove it")


def without_password(text: str) -> str:
    """Return a database URL without its password; of an invalid URL of PostgreSQL, only the scheme."""
    if not is_postgres_url(text):
        return text
    scheme = text.partition("://")[0]
    try:
        check_postgres_url(text)
    except InvalidDatabaseUrl:
        return f"{scheme}://…"
    parts = urlsplit(text)
    # Composed of the checked parts: cutting the password out could leave a piece of it.
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
    if _PORT.fullmatch(text) is None or not 0 < int(text) <= 65_535:
        raise InvalidDatabaseUrl("a port must be a number from 1 to 65535")


DATABASE = SettingType(
    "sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host:port/name",
    _database,
    without_password,
)
