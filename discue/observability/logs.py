"""Structured logs: one line per event, on top of the standard library's logging."""

import json
import logging
import re
import traceback
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Literal, TextIO

from discue.domain.clock import Clock, rfc3339

LINE_LIMIT_BYTES = 8_192
"""Maximum length of a line, including the newline."""

LogFormat = Literal["text", "json"]

ROOT = "discue"

_KEY = re.compile(r"(dsk_[0-9A-Za-z_-]{8})[0-9A-Za-z_-]+")
_SIGNING_SECRET = re.compile(r"(whs(?:ec|k)_)[0-9A-Za-z+/=_-]+")
_ENCRYPTION_KEY = re.compile(r"(encryption[_-]key[=: '\"]+)[0-9A-Za-z+/_=,-]{40,}", re.IGNORECASE)
# Up to the last `@`, so that a password with unescaped special characters is removed too.
_DATABASE_PASSWORD = re.compile(r"(postgres(?:ql)?://[^\s:@]{0,200}:)\S{0,1000}@", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s/?#:@]*:)[^\s/?#@]*@")
_PASSWORD_PARAMETER = re.compile(r"(password=)[^\s&'\"]+")
_SECRET_FIELDS = frozenset(
    {"secret", "secrets", "key", "api_key", "x_api_key", "bootstrap_key", "encryption_key", "authorization", "password"}
)
_FIELDS = "discue_fields"
_RESERVED = frozenset({"time", "level", "event", "exception", "trace", "truncated"})
_INVALID_IN_NAME = re.compile(r"[^A-Za-z0-9_.]")
_MAX_NAME_CHARACTERS = 64
_MAX_TRACE_CHARACTERS = 4_096
_UNQUOTED = re.compile(r'[^\s"=\\]+')
_RESERVED_FOR_END = 64
_MIN_FIELD_BYTES = 128
_REPEATED_SECONDS = 10.0
_LINES_KNOWN = 1_024


class Log:
    """The logger of one part of the service. Its methods never raise, whatever the fields are."""

    def __init__(self, part: str = "") -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}" if part else ROOT)

    @property
    def is_debug(self) -> bool:
        """Whether `debug` writes anything. Check it before collecting the fields of a frequent event."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, event: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields, None)

    def info(self, event: str, /, **fields: object) -> None:
        self._write(logging.INFO, event, fields, None)

    def warning(self, event: str, /, **fields: object) -> None:
        self._write(logging.WARNING, event, fields, None)

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """`exc_info` adds the exception and its traceback."""
        self._write(logging.ERROR, event, fields, exc_info)

    def _write(self, level: int, event: str, fields: dict[str, object], error: BaseException | None) -> None:
        if self._logger.isEnabledFor(level):
            cause = (type(error), error, error.__traceback__) if error is not None else None
            # Created here because `Logger.log` inspects the stack to find the caller, which takes longer than the rest.
            record = logging.LogRecord(self._logger.name, level, "", 0, event, None, cause)
            setattr(record, _FIELDS, fields)
            self._logger.handle(record)


def configure(form: LogFormat, level: str, clock: Clock, stream: TextIO) -> None:
    """Configure the logging of this process to write to `stream` only.

    `level` (debug, info, warning or error) applies to the events of discue. Libraries log from warning on.
    """
    # Not shown in any line, so not collected for each record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(form, clock, stream)]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())


@dataclass(slots=True)
class _WrittenLine:
    """A line that was written within the last ten seconds."""

    written_at: float
    repeated: int = 0
    """How often the line came again."""
    latest: str = ""
    """The last repetition."""


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream; the same warning or error at most once in ten seconds.

    Lines are the same if only their times differ. When the ten seconds have passed, the last repetition is written with
    the number of all of them as `repeated`: together with the next line of any kind, or at the end.
    """

    def __init__(self, form: LogFormat, clock: Clock, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(LineFormatter(form, clock))
        self._clock = clock
        self._known: OrderedDict[int, _WrittenLine] = OrderedDict()
        """By the hash of the line without its time, in the order in which they were written."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            now = self._clock.monotonic()
            self._write_repeated(now)
            line = self.format(record)
            if record.levelno < logging.WARNING or not self._is_repeated(line, now):
                self._write(line)
        except Exception:  # Logging must not stop the work that is logged
            self.handleError(record)

    def close(self) -> None:
        with suppress(OSError, ValueError):  # a closed stream must not stop the process from exiting
            while self._known:
                self._write_count(self._known.popitem(last=False)[1])
        super().close()

    def _is_repeated(self, line: str, now: float) -> bool:
        key = hash(line[line.index("Z") :])
        known = self._known.get(key)
        if known is None:
            self._known[key] = _WrittenLine(now)
            if len(self._known) > _LINES_KNOWN:
                self._write_count(self._known.popitem(last=False)[1])
            return False
        known.repeated += 1
        known.latest = line
        return True

    def _write_repeated(self, now: float) -> None:
        """Write the repetitions of every line that may be written again."""
        while self._known:
            key, oldest = next(iter(self._known.items()))
            if now - oldest.written_at < _REPEATED_SECONDS:
                return
            del self._known[key]
            if oldest.repeated:
                self._write_count(oldest)
                self._known[key] = _WrittenLine(now)

    def _write_count(self, written: _WrittenLine) -> None:
        line, count = written.latest, written.repeated
        if count:
            self._write(f'{line[:-1]},"repeated":{count}}}' if line.startswith("{") else f"{line} repeated={count}")

    def _write(self, line: str) -> None:
        self.stream.write(line + self.terminator)
        self.flush()


class LineFormatter(logging.Formatter):
    """Formats a record as one line of printable characters, without secrets."""

    def __init__(self, form: LogFormat, clock: Clock) -> None:
        super().__init__()
        self._is_json = form == "json"
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        event = redact(_text(record.msg)) if hasattr(record, _FIELDS) else "library"
        line = _Line(rfc3339(self._clock.now()), record.levelname.lower(), event, is_json=self._is_json)
        for name, value in _fields(record):
            line.add(_field_name(name), _value(name, value))
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line.add("exception", redact(f"{type(error).__name__}: {_text(error)}"))
            # If the traceback is too long, its end is the useful part.
            line.add("trace", redact(_trace(error))[-_MAX_TRACE_CHARACTERS:])
        return line.finished()


def redact(text: str) -> str:
    """Return the text without secrets. An API key keeps its first 12 characters; other secrets are removed entirely."""
    if "dsk_" in text:
        text = _KEY.sub(r"\1…", text)
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1…@", _DATABASE_PASSWORD.sub(r"\1…@", text))
    if "password=" in text:
        text = _PASSWORD_PARAMETER.sub(r"\1…", text)
    if "ncryption" in text or "ENCRYPTION" in text:
        text = _ENCRYPTION_KEY.sub(r"\1…", text)
    return _SIGNING_SECRET.sub(r"\1…", text) if "whs" in text else text


class _Number(str):
    """A value that JSON writes without quotes."""

    __slots__ = ()


class _Line:
    """Builds a line `time level event name=value …`, or one with a JSON object.

    In text, values with spaces or special characters are quoted. In JSON, values are strings, numbers, true, false and
    null.
    """

    def __init__(self, time: str, level: str, event: str, *, is_json: bool) -> None:
        self._is_json = is_json
        start = f'{{"time":"{time}","level":"{level}"' if is_json else f"{time} {level}"
        self._pieces = [start]
        self._room = LINE_LIMIT_BYTES - _RESERVED_FOR_END - len(start)
        self._truncated = False
        self._append(',"event":' if is_json else " ", event, LINE_LIMIT_BYTES // 4)

    def add(self, name: str, text: str) -> None:
        """Add a field. A long value is truncated, and omitted if there is hardly any room."""
        if self._room < _MIN_FIELD_BYTES:
            self._truncated = True
        else:
            self._append(f',"{name}":' if self._is_json else f" {name}=", text, self._room)

    def finished(self) -> str:
        if self._truncated:
            self._pieces.append(',"truncated":true' if self._is_json else " truncated=true")
        return "".join(self._pieces) + ("}" if self._is_json else "")

    def _append(self, prefix: str, text: str, room: int) -> None:
        shown = prefix + self._shown(text)
        # Escapes can make the text six times longer, so its length is only known after it is quoted.
        while (size := len(shown) if shown.isascii() else len(shown.encode())) > room:
            self._truncated = True
            text = text[: min(len(text) // 2, room - len(prefix))]
            shown = prefix + self._shown(text)
        self._pieces.append(shown)
        self._room -= size

    def _shown(self, text: str) -> str:
        is_bare = isinstance(text, _Number) if self._is_json else _UNQUOTED.fullmatch(text)
        if text.isprintable():
            return str(text) if is_bare else encode_basestring(text)
        return encode_basestring_ascii(text)


def _fields(record: logging.LogRecord) -> Iterable[tuple[str, object]]:
    """Return the fields of an event, in order; for a record of a library, its logger and message."""
    fields: dict[str, object] | None = getattr(record, _FIELDS, None)
    if fields is not None:
        return fields.items()
    try:
        message = record.getMessage()
    except Exception:  # Arguments that do not match a library's format string
        message = _text(record.msg)
    return (("logger", record.name), ("message", message))


@lru_cache(maxsize=1024)
def _field_name(name: str) -> str:
    plain = name if name.isidentifier() and name.isascii() else _INVALID_IN_NAME.sub("_", name)
    return f"{plain}_" if plain in _RESERVED else plain[:_MAX_NAME_CHARACTERS] or "_"


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return name.lower().replace("-", "_") in _SECRET_FIELDS


def _value(name: str, value: object) -> str:
    if _is_secret(name):
        return "[redacted]"
    if value is not None and not isinstance(value, int | float):
        return redact(_text(value))
    try:
        return _Number(json.dumps(value, allow_nan=False))
    except ValueError:
        return f"({type(value).__name__} that JSON cannot represent)"


def _text(value: object) -> str:
    try:
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    except Exception:  # Logging an error must not raise another one
        return f"(unprintable {type(value).__name__})"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # Methods of the exception may raise
        return f"(unprintable {type(error).__name__})"
