"""Sources of settings: flags override the environment, which overrides the TOML file, which overrides defaults."""

import argparse
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from discue.config.settings import SETTINGS, VARIABLE_PREFIX, Command, Setting, Settings
from discue.config.types import InvalidValue, is_loopback
from discue.domain.errors import Fault, SettingsInvalid
from discue.domain.suggestions import suggestion

CONFIG_FLAG = "--config"
CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"

ReadFile = Callable[[Path], bytes]

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_MAX_SHOWN = 100
_OF_CLIENTS = frozenset({"URL", "API_KEY", "WEBHOOK_SECRET", "OUTBOX_DATABASE"})
"""Variables of clients and receivers, which a shell may have exported. No command that has settings reads them."""

# Kubernetes sets these variables in every container for a Service named discue or discue-…; some have a URL as value.
_SERVICE_VARIABLE = re.compile(
    VARIABLE_PREFIX + r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.+")


class _Given(NamedTuple):
    """The text of a setting."""

    text: str
    origin: str
    """Source of the text: a flag, an environment variable, or a key of the file."""


def load(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    read_file: ReadFile,
    base: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings from `flags` (see `flags_of`), `environ`, and the TOML file that one of them names.

    `base` overrides the defaults for a command. Empty environment variables are ignored; unknown ones that start with
    DISCUE_ are faults. Raises SettingsInvalid with a
    fault for each problem, whose pointer is the source of the value.
    """
    faults: list[Fault] = []
    # From the lowest precedence to the highest: each source overrides the ones before it.
    given = {name: _Given(text, "this command") for name, text in (base or {}).items()}
    given |= _from_file(flags, environ, read_file, faults)
    given |= {
        setting.name: _Given(environ[setting.variable], setting.variable)
        for setting in SETTINGS
        if environ.get(setting.variable)
    }
    given |= {setting.name: _Given(flags[setting.name], setting.flag) for setting in SETTINGS if setting.name in flags}
    faults += _unknown_variables(environ)
    settings, invalid = _parse(given, faults)
    faults.extend(_broken_constraints(settings, given, invalid))
    # All problems at once: operators should not have to start again for each one.
    if faults:
        lines = [f"{fault.pointer}: {fault.detail}" for fault in faults]
        raise SettingsInvalid("\n  ".join(["Invalid settings:", *lines]), faults=tuple(faults))
    return settings


def add_flags(parser: argparse.ArgumentParser, command: Command, base: Mapping[str, str] | None = None) -> None:
    """Add the flags of a command's settings, and `--config`, to its parser. `base` overrides shown defaults."""
    group = parser.add_argument_group("settings", "flags override DISCUE_… variables, which override the TOML file")
    group.add_argument(CONFIG_FLAG, metavar="FILE", default=argparse.SUPPRESS, help="TOML file with settings")
    accepted = [setting for setting in SETTINGS if command in setting.commands]
    for title, settings in groupby(accepted, key=lambda setting: setting.group):
        group = parser.add_argument_group(f"settings: {title}")
        for setting in settings:
            # argparse formats help texts with %.
            usage = setting.help.replace("`", "").replace("%", "%%")
            choices = f"{{{','.join(setting.type.choices)}}}" if setting.type.choices else ""
            optional: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(setting.default, bool) else {}
            group.add_argument(
                setting.flag,
                metavar=choices or setting.name.upper(),
                default=argparse.SUPPRESS,
                help=f"{usage} [{(base or {}).get(setting.name) or describe(setting.type.shown(setting.default))}]",
                **optional,
            )


def flags_of(namespace: argparse.Namespace) -> dict[str, str]:
    """Return the settings among parsed arguments."""
    return {name: value for name, value in vars(namespace).items() if name in _BY_NAME or name == "config"}


def describe(value: object) -> str:
    """Return a default as an operator would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value in (None, ()) else str(value)


def _from_file(
    flags: Mapping[str, str], environ: Mapping[str, str], read_file: ReadFile, faults: list[Fault]
) -> dict[str, _Given]:
    named = flags.get("config")
    origin = CONFIG_FLAG if named is not None else CONFIG_VARIABLE
    path = named if named is not None else environ.get(CONFIG_VARIABLE)
    if not path:
        return {}
    try:
        document = tomllib.loads(read_file(Path(path)).decode())
    except (OSError, ValueError) as error:
        faults.append(Fault(origin, f"cannot read {path}: {_reason(error)}"))
        return {}
    given = {}
    for key, value in document.items():
        origin = f"{path}: {key}"
        if key not in _BY_NAME:
            faults.append(Fault(origin, "unknown setting" + suggestion(key.lower().replace("-", "_"), _BY_NAME)))
        elif (text := _text_of(value)) is None:
            faults.append(Fault(origin, f"expected {_BY_NAME[key].type.expected}"))
        else:
            given[key] = _Given(text, origin)
    return given


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield a fault for each variable that looks like a setting and is none: it would silently have no effect."""
    settings = {setting.name.upper() for setting in SETTINGS} | {CONFIG_VARIABLE.removeprefix(VARIABLE_PREFIX)}
    known = settings | _OF_CLIENTS
    for variable in sorted(environ):
        name = variable.removeprefix(VARIABLE_PREFIX)
        if not variable.startswith(VARIABLE_PREFIX) or name in known or not environ[variable]:
            continue
        if _SERVICE_VARIABLE.fullmatch(variable) is None and _SERVICE_URL.fullmatch(environ[variable]) is None:
            yield Fault(variable, "unknown setting" + suggestion(name.upper(), settings, VARIABLE_PREFIX))


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"not TOML: {error}"


def _text_of(value: object) -> str | None:
    """Return a TOML value as the text of a flag; None for types that no setting has (float, date, table)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return None


def _parse(given: Mapping[str, _Given], faults: list[Fault]) -> tuple[Settings, set[str]]:
    """Return the settings from the valid values, and the names of the invalid ones."""
    values: dict[str, Any] = {}
    invalid = set()
    for name, (text, origin) in given.items():
        setting = _BY_NAME[name]
        try:
            values[name] = setting.type.parse(text)
        except ValueError as error:
            invalid.add(name)
            faults.append(Fault(origin, _parse_error(setting, text, error)))
    origins = {name: origin for name, (_, origin) in given.items() if name in values}
    return Settings(**values, origins=origins), invalid


def _parse_error(setting: Setting, text: str, error: ValueError) -> str:
    if isinstance(error, InvalidValue):
        return f"{error}; expected {setting.type.expected}"
    if setting.secret:
        return f"invalid value; expected {setting.type.expected}"
    shown = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return f"invalid value {shown!r}; expected {setting.type.expected}" + suggestion(text.lower(), setting.type.choices)


def _broken_constraints(settings: Settings, given: Mapping[str, _Given], invalid: set[str]) -> Iterator[Fault]:
    for names, is_broken, detail in _CONSTRAINTS:
        # Settings that are invalid themselves have no value to compare.
        if invalid.isdisjoint(names) and is_broken(settings):
            origin = next((given[name].origin for name in names if name in given), _BY_NAME[names[0]].flag)
            yield Fault(origin, detail)


_CLEARTEXT = (
    "cleartext is allowed on loopback only; set tls_cert and tls_key, or tls_self_signed, or set insecure behind a "
    "proxy that terminates TLS"
)

_CONSTRAINTS: tuple[tuple[tuple[str, ...], Callable[[Settings], object], str], ...] = (
    (
        ("tls_cert", "tls_key"),
        lambda settings: (settings.tls_cert is None) != (settings.tls_key is None),
        "set both tls_cert and tls_key, or neither",
    ),
    (
        ("encryption_key", "encryption_key_file"),
        lambda settings: settings.encryption_key is not None and settings.encryption_key_file is not None,
        "set either encryption_key or encryption_key_file, not both",
    ),
    (
        ("encryption", "encryption_key", "encryption_key_file"),
        lambda settings: settings.encryption == "none" and (settings.encryption_key or settings.encryption_key_file),
        "set encryption to none, or a key, not both",
    ),
    (
        ("tls_self_signed", "tls_cert"),
        lambda settings: settings.tls_self_signed and settings.tls_cert is not None,
        "set either tls_self_signed or tls_cert, not both",
    ),
    (
        ("host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (is_loopback(settings.host) or settings.has_tls or settings.insecure),
        _CLEARTEXT,
    ),
    (
        ("metrics_port", "port"),
        lambda settings: settings.port != 0 and settings.metrics_port == settings.port,
        "metrics_port and port must differ: each would get some of the other's requests",
    ),
    (
        ("metrics_host", "metrics_key"),
        lambda settings: settings.metrics_key is None and not is_loopback(settings.metrics_host),
        "anybody could read the metrics; set metrics_key, or a loopback address as metrics_host",
    ),
    (
        ("dashboard_port", "port", "metrics_port"),
        lambda settings: settings.dashboard_port in {settings.port, settings.metrics_port} - {0, None},
        "dashboard_port, port and metrics_port must differ: each would get some of the other's requests",
    ),
    (
        ("dashboard_port", "dashboard"),
        lambda settings: settings.dashboard_port is not None and not settings.dashboard,
        "dashboard is false, so there is nothing to serve on dashboard_port; set one of them only",
    ),
    (
        ("dashboard_url", "dashboard_port"),
        lambda settings: settings.dashboard_url is not None and settings.dashboard_port is None,
        "the dashboard is served with the API, whose URL is public_url; set dashboard_port, too, or public_url instead",
    ),
    (
        ("dashboard_host", "insecure", "tls_cert", "tls_key", "tls_self_signed"),
        lambda settings: not (is_loopback(settings.dashboard_host) or settings.has_tls or settings.insecure),
        _CLEARTEXT,
    ),
    (
        ("backup_to", "database"),
        lambda settings: settings.backup_to is not None and settings.database_path is None,
        "backup_to is for SQLite; use the tools of PostgreSQL",
    ),
    (
        ("backup_keep", "backup_every"),
        lambda settings: settings.backup_keep is not None and settings.backup_keep < settings.backup_every,
        "backup_keep must not be shorter than backup_every",
    ),
)
"""Rules about settings that are valid on their own but not together: names, a check for a violation, and a remedy."""
