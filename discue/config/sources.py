"""Reading the settings: flags win over the environment, that over the TOML file, that over the defaults."""

import argparse
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from discue.config.settings import CONSTRAINTS, SETTINGS, Command, Setting, Settings
from discue.config.types import InvalidValue
from discue.domain.errors import Fault, SettingsInvalid

CONFIG_FLAG = "--config"
CONFIG_VARIABLE = "DISCUE_CONFIG"

ReadFile = Callable[[Path], bytes]

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_SHOWN_CHARACTERS = 100


class _Given(NamedTuple):
    """The text of a setting, and the place that an operator finds it at."""

    text: str
    origin: str


def load(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    read_file: ReadFile,
    base: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that hold, from `flags` (see `flags_of`), `environ` and the TOML file that these name.

    `base` is what a command puts in the place of the defaults. An empty variable counts as none. Raises
    SettingsInvalid with one fault for each problem: its pointer is where the value came from.
    """
    faults: list[Fault] = []
    given = {name: _Given(text, "this command") for name, text in (base or {}).items()}
    given |= _from_file(flags, environ, read_file, faults)
    given |= {
        setting.name: _Given(environ[setting.variable], setting.variable)
        for setting in SETTINGS
        if environ.get(setting.variable)
    }
    given |= {setting.name: _Given(flags[setting.name], setting.flag) for setting in SETTINGS if setting.name in flags}
    settings, invalid = _parsed(given, faults)
    faults.extend(_disagreements(settings, given, invalid))
    if faults:
        raise SettingsInvalid(_sentence(faults), faults=tuple(faults))
    return settings


def add_flags(parser: argparse._ActionsContainer, command: Command) -> None:
    """Give a command's parser the flags of its settings, and `--config`. `flags_of` reads them back."""
    parser.add_argument(CONFIG_FLAG, metavar="FILE", default=argparse.SUPPRESS, help="a TOML file with settings")
    for setting in SETTINGS:
        if command in setting.commands:
            # argparse formats help with `%`.
            usage = setting.help.replace("`", "").replace("%", "%%")
            optional: dict[str, Any] = {"nargs": "?", "const": "true"} if _is_switch(setting) else {}
            parser.add_argument(
                setting.flag,
                metavar=setting.name.upper(),
                default=argparse.SUPPRESS,
                help=f"{usage} [{describe(setting.default)}]",
                **optional,
            )


def flags_of(namespace: argparse.Namespace) -> dict[str, str]:
    """The settings among parsed arguments: those that were given."""
    return {name: value for name, value in vars(namespace).items() if name in _BY_NAME or name == "config"}


def _is_switch(setting: Setting) -> bool:
    return isinstance(setting.default, bool)


def describe(value: object) -> str:
    """A default as the operator would write it."""
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
        faults.append(Fault(origin, f"{path} cannot be read: {_reason(error)}"))
        return {}
    return _from_document(document, path, faults)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"it is not TOML: {error}"


def _from_document(document: Mapping[str, object], path: str, faults: list[Fault]) -> dict[str, _Given]:
    given = {}
    for key, value in document.items():
        origin = f"{path}: {key}"
        if key not in _BY_NAME:
            faults.append(Fault(origin, f"there is no such setting{_nearest(key)}"))
        elif (text := _text_of(value)) is None:
            faults.append(Fault(origin, f"{_BY_NAME[key].kind.expected} is expected"))
        else:
            given[key] = _Given(text, origin)
    return given


def _nearest(key: str) -> str:
    close = get_close_matches(key.lower().replace("-", "_"), _BY_NAME, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _text_of(value: object) -> str | None:
    """What a flag would say for a value of TOML; None for what no setting is (a float, a date, a table)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return None


def _parsed(given: Mapping[str, _Given], faults: list[Fault]) -> tuple[Settings, set[str]]:
    """The settings with what could be read, and the names of those that could not."""
    values: dict[str, Any] = {}
    invalid = set()
    for name, (text, origin) in given.items():
        setting = _BY_NAME[name]
        try:
            values[name] = setting.kind.parse(text)
        except ValueError as error:
            invalid.add(name)
            faults.append(Fault(origin, _complaint(setting, text, error)))
    return Settings(**values), invalid


def _complaint(setting: Setting, text: str, error: ValueError) -> str:
    if isinstance(error, InvalidValue):
        return f"{error}; {setting.kind.expected} is expected"
    if setting.secret:
        return f"the value does not fit; {setting.kind.expected} is expected"
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return f"{shown!r} does not fit; {setting.kind.expected} is expected"


def _disagreements(settings: Settings, given: Mapping[str, _Given], invalid: set[str]) -> Iterator[Fault]:
    for names, broken, detail in CONSTRAINTS:
        if invalid.isdisjoint(names) and broken(settings):
            origin = next((given[name].origin for name in names if name in given), _BY_NAME[names[0]].flag)
            yield Fault(origin, detail)


def _sentence(faults: list[Fault]) -> str:
    lines = [f"{fault.pointer}: {fault.detail}" for fault in faults]
    return "\n  ".join(["The settings are not valid:", *lines])
