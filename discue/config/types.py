"""How the text of a setting becomes a value: one kind a sort of value, with what it expects."""

import re
from base64 import b64decode
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from discue.config.database_url import InvalidDatabaseUrl, check_address, is_address, without_password

Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

SQLITE_PREFIX = "sqlite:///"


class InvalidValue(ValueError):
    """Text that is understood, and not possible. Its message says why, and never repeats the text."""


def _as_it_is(value: object) -> object:
    return value


class SettingType(NamedTuple):
    """A sort of value. `parse` raises ValueError for text that is not one; `shown` is what of it is no secret."""

    expected: str
    parse: Callable[[str], object]
    shown: Callable[[Any], object] = _as_it_is


_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ORGANIZATION = re.compile(rf"(?=.{{4,253}}\Z){_LABEL}(?:\.{_LABEL})+(?:/[A-Za-z0-9._-]+)?")
_KEY = re.compile(r"dsk_[0-9A-Za-z]{43,128}")
_ON = frozenset({"true", "yes", "on", "1"})
_OFF = frozenset({"false", "no", "off", "0"})
_DIGITS_LIMIT = 18
_ENCRYPTION_KEY_BYTES = 32
_URL_SAFE = str.maketrans("-_", "+/")


def whole(least: int, most: int) -> SettingType:
    """A whole number within bounds, both included."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_LIMIT):
            raise ValueError(text)
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return SettingType(f"a whole number from {least} to {most}", parse)


def one_of(*words: str) -> SettingType:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return SettingType(f"{', '.join(words[:-1])} or {words[-1]}", parse)


def _yes_or_no(text: str) -> bool:
    word = text.lower()
    if word not in _ON | _OFF:
        raise ValueError(text)
    return word in _ON


def _networks(text: str) -> Networks:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _yes_or_networks(text: str) -> bool | Networks:
    return _yes_or_no(text) if text.lower() in _ON | _OFF else _networks(text)


def _host(text: str) -> str:
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
    if "@" in parts.netloc or "?" in text or "#" in text or not text.isprintable() or " " in text:
        raise ValueError(text)
    return text.rstrip("/")


def _database(text: str) -> str:
    """Nothing that is refused is repeated: it may hold a password."""
    if is_address(text):
        try:
            check_address(text)
        except InvalidDatabaseUrl as error:
            raise InvalidValue(f"the address cannot be used: {error}") from error
        return text
    if not text.startswith(SQLITE_PREFIX) or "\0" in text:
        raise InvalidValue("the value does not fit")
    if text.removeprefix(SQLITE_PREFIX) in ("", "/", ":memory:"):
        raise InvalidValue("messages are kept in a file, and no file is named")
    return text


def show_database(text: str) -> str:
    """Where a database is, without the password to it."""
    return without_password(text) if is_address(text) else text


def _organization(text: str) -> str:
    if _ORGANIZATION.fullmatch(text) is None:
        raise ValueError(text)
    return text


def _api_key(text: str) -> str:
    if _KEY.fullmatch(text) is None:
        raise ValueError
    return text


def encryption_key(text: str) -> bytes:
    """32 bytes, in base64 of either alphabet. Nothing of what is refused is repeated."""
    try:
        key = b64decode(text.translate(_URL_SAFE), validate=True)
    except ValueError:
        raise ValueError from None
    if len(key) != _ENCRYPTION_KEY_BYTES:
        raise ValueError
    return key


def _encryption_keys(text: str) -> tuple[bytes, ...]:
    return tuple(encryption_key(part.strip()) for part in text.split(","))


YES_OR_NO = SettingType("true or false", _yes_or_no)
NETWORKS = SettingType("networks such as 10.0.0.0/8, separated by commas", _networks)
YES_OR_NETWORKS = SettingType("true, false, or networks such as 10.0.0.0/8, separated by commas", _yes_or_networks)
HOST = SettingType("an address or a host name to listen on", _host)
FILE = SettingType("the path of a file", _path)
PUBLIC_URL = SettingType("an absolute http or https URL without query, fragment and credentials", _public_url)
DATABASE = SettingType(
    "sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host:port/name",
    _database,
    show_database,
)
ORGANIZATION = SettingType("a reverse domain name such as com.example.dev", _organization)
ENCRYPTION_KEYS = SettingType(
    "32 random bytes in base64, or several of such keys, separated by commas", _encryption_keys
)
API_KEY = SettingType("a key: dsk_ and 43 to 128 letters and digits", _api_key)
