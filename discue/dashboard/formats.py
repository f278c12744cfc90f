"""How pages show numbers, sizes, durations, times and the data of messages. The present is an argument."""

import codecs
import re
from datetime import UTC, datetime
from typing import Final

import msgspec
from markupsafe import Markup, escape

from discue.domain.attempts import StoredAttempt
from discue.domain.causes import Cause
from discue.domain.clock import rfc3339
from discue.domain.errors import reason_phrase
from discue.domain.json_text import levels_of

THIN_SPACE: Final = "\u202f"
_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_UNITS: Final = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s"))
_SIZES: Final = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))
_SMALLEST_GROUPED: Final = 10_000
_LOWEST_RATE: Final = 0.1
_WHOLE_FROM: Final = 10
_TENTHS_BELOW: Final = 10 * _SECOND

SHOWN_BYTES: Final = 20_000
"""The largest part of a body that a page shows, in bytes of HTML."""
PREVIEW_BYTES: Final = 120
"""The largest part of the data of a message that a list shows."""
_PREVIEW_HTML_BYTES: Final = 400
_INDENTED_BYTES: Final = 20_000
"""The longest JSON that is indented."""
_INDENTED_LEVELS: Final = 32


def number(value: int) -> str:
    """Return an exact integer, with its digits in groups of three from five digits on."""
    return str(value) if abs(value) < _SMALLEST_GROUPED else f"{value:,}".replace(",", THIN_SPACE)


def size(value: int) -> str:
    """Return a number of bytes: exact below 1,000, else in the largest unit that it reaches, with three digits."""
    for unit, name in _SIZES:
        if abs(value) >= unit:
            amount = value / unit
            return f"{amount:.{0 if amount >= 100 else 1}f}{THIN_SPACE}{name}"
    return f"{value}{THIN_SPACE}B"


def duration(milliseconds: int) -> str:
    """Return a duration in its two largest units. A negative one, which clocks that differ can produce, is 0."""
    left = max(0, milliseconds)
    if left < _SECOND:
        return f"{left}{THIN_SPACE}ms"
    if left < _TENTHS_BELOW:
        return f"{left / _SECOND:.1f}{THIN_SPACE}s"
    parts: list[str] = []
    for unit, name in _UNITS:
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count}{THIN_SPACE}{name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))


def ago(instant: int, now: int) -> str:
    """Return a time relative to the present: `3 min ago`, or `in 5 s`. Of durations, only the largest unit."""
    apart = now - instant
    if abs(apart) < _SECOND:
        return "just now"
    text = duration(abs(apart) // _SECOND * _SECOND).partition(" ")[0].replace(".0", "")
    return f"{text} ago" if apart > 0 else f"in {text}"


def utc(instant: int) -> str:
    """Return a time to the millisecond, as people read it."""
    moment = datetime.fromtimestamp(instant // _SECOND, UTC)
    return f"{moment:%d %b %Y, %H:%M:%S}.{instant % _SECOND:03d} UTC"


def time(instant: int, now: int) -> Markup:
    """Return a time as an element: relative text, the exact time as its title; "never" for 0."""
    if not instant:
        return Markup('<span class="soft">never</span>')
    return _element(instant, ago(instant, now))


def clock(instant: int) -> Markup:
    """Return a time as an element whose text is the time of day, for lists in which the order of events matters."""
    moment = datetime.fromtimestamp(instant // _SECOND, UTC)
    return _element(instant, f"{moment:%H:%M:%S}.{instant % _SECOND:03d}")


def _element(instant: int, text: str) -> Markup:
    # None of the three can have a character to escape, and a page may have hundreds.
    return Markup(f'<time datetime="{rfc3339(instant)}" title="{utc(instant)}">{text}</time>')  # noqa: S704


def hour(instant: int) -> str:
    """Return the hour and minute of a time, in UTC, for the axis of a chart."""
    return f"{datetime.fromtimestamp(instant // _SECOND, UTC):%H:%M}"


def day(instant: int) -> str:
    """Return the day of a time in UTC, such as `03 Dec`, for the axis of a chart of several days."""
    return f"{datetime.fromtimestamp(instant // _SECOND, UTC):%d %b}"


def outcome(made: StoredAttempt) -> str:
    """Return the outcome of an attempt: the status and its phrase, or the cause if there is no status."""
    if not made.status:
        return made.cause
    return f"{made.status // 100}xx" if made.withheld else f"{made.status} {reason_phrase(made.status)}"


def cause_of_job(stopped_by: str) -> str:
    """Return the failure that stopped a redelivery: its status or reason, and the beginning of the response."""
    cause = msgspec.json.decode(stopped_by, type=Cause)
    return f"{cause.status or cause.reason.replace('_', ' ')} {cause.text}".strip()


def percent(part: int, whole: int) -> str:
    """Return a part of a whole. It is 100 % or 0 % only if it is exactly that."""
    if not whole:
        return "–"
    if part in (0, whole):
        return "0 %" if not part else "100 %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"


def rate(per_minute: float) -> str:
    """Return a rate: exact enough to compare, and 0 only if nothing happened."""
    if 0 < per_minute < _LOWEST_RATE:
        return f"under {_LOWEST_RATE} per minute"
    shown = number(round(per_minute)) if per_minute >= _WHOLE_FROM else f"{per_minute:.1f}".removesuffix(".0")
    return f"{shown} per minute"


def plural(count: int, noun: str, several: str = "") -> str:
    """Return a count with its noun: `1 message`, `2 messages`."""
    return f"{number(count)} {noun if count == 1 else several or noun + 's'}"


def readable(content: bytes, *, most: int) -> tuple[str, bool]:
    """Return data as text: JSON is indented, unless that could make it many times as long.

    The text takes at most `most` bytes of HTML. The second value says whether the end is left out.
    """
    text = _indented(content) or content[: 4 * most].decode(errors="backslashreplace")
    shown = beginning(text, most)
    return shown, len(content) > 4 * most or len(text) > len(shown)


def preview(start: bytes, size: int) -> str:
    """Return the first bytes of data as one line; "" if they are not text. `size` is that of all data."""
    try:
        # The last character may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return ""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    shown = beginning(line, _PREVIEW_HTML_BYTES)
    return f"{shown}…" if size > len(text.encode()) or len(shown) < len(line) else shown


def beginning(text: str, most: int) -> str:
    """Return as much of a text as takes at most `most` bytes of HTML, in which quotes and brackets are longer."""
    if len(text) <= most and html_bytes(text) <= most:
        return text
    low, high = 0, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if html_bytes(text[:middle]) <= most else (low, middle - 1)
    return text[:low]


def html_bytes(text: str) -> int:
    return len(escape(text).encode())


def _indented(content: bytes) -> str:
    """Return JSON with indents; "" for other data, and for JSON that is too long or nested too deeply."""
    # Each element is indented by the depth: the text can be longer than the data by as many times.
    if content[:1] not in (b"{", b"[") or len(content) > _INDENTED_BYTES:
        return ""
    if content.count(b"{") + content.count(b"[") > _INDENTED_LEVELS and levels_of(content) > _INDENTED_LEVELS:
        return ""
    try:
        return msgspec.json.format(content, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Data that only looks like JSON is shown as it is.
        return ""


_TIME: Final = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_CODE: Final = re.compile(r"`([^`]+)`")
_LISTENER: Final = re.compile(r"\b([Tt])he listener\b(?![.-]\w)")
"""Not a part of a host's name, which such a sentence may contain."""
_FOR_CUSTOMERS: Final = (
    ("for the time that `disable_after_seconds` sets", "for days"),
    ("the domain of its `notify_url`", "the domain of its URL"),
    ("disabled by a request", "disabled"),
)


def worded(text: str, *, for_customer: bool) -> str:
    """Return a sentence in the words of the dashboard, or of the portal."""
    if not for_customer:
        return text
    for words, others in _FOR_CUSTOMERS:
        text = text.replace(words, others)
    return _LISTENER.sub(r"\1he endpoint", text)


def sentence(text: str, *, for_customer: bool) -> Markup:
    """Return a sentence as HTML: its times are elements, which show the local time, too, and names in it are code."""
    escaped = str(escape(worded(text, for_customer=for_customer)))
    return Markup(_TIME.sub(_instant, _CODE.sub(r"<code>\1</code>", escaped)))  # noqa: S704 - the text is escaped


def _instant(found: re.Match[str]) -> str:
    moment = datetime.fromisoformat(found[0])
    return _element(round(moment.timestamp() * 1_000), f"{moment:%d %b %Y, %H:%M:%S} UTC")


# The first that matches decides: most browsers also claim to be others.
_BROWSERS: Final = (
    ("Edge", re.compile(r"Edg(?:A|iOS)?/(\d+)")),
    ("Opera", re.compile(r"OPR/(\d+)")),
    ("Samsung Internet", re.compile(r"SamsungBrowser/(\d+)")),
    ("Firefox", re.compile(r"(?:Firefox|FxiOS)/(\d+)")),
    ("Chrome", re.compile(r"(?:Chrome|CriOS|HeadlessChrome)/(\d+)")),
    ("Safari", re.compile(r"Version/(\d+)[\d.]* (?:Mobile/\S+ )?Safari/")),
    ("curl", re.compile(r"curl/(\d+)")),
)
_SYSTEMS: Final = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_SHOWN_CHARACTERS: Final = 60


def browser_name(user_agent: str) -> str:
    """Return a short name for a User-Agent header, such as "Firefox 140 on Linux". The header may say anything."""
    found = ((name, pattern.search(user_agent)) for name, pattern in _BROWSERS)
    name = next((f"{name} {match[1]}" for name, match in found if match is not None), "")
    if not name:
        return user_agent[:_SHOWN_CHARACTERS] or "unknown"
    system = next((shown for mark, shown in _SYSTEMS if mark in user_agent), "")
    return f"{name} on {system}" if system else name
