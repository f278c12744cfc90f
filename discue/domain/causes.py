"""Causes of missed messages: failures whose reason, status and response are alike are one cause."""

import re
from collections.abc import Collection
from hashlib import sha256
from typing import Final

import msgspec

from discue.domain.attempts import Outcome, describe_failure, shown_outcome
from discue.domain.model import MISSED_REASONS

MOST_CAUSES: Final = 100
"""The largest number of causes that are told apart for one listener."""
TEXT_CHARACTERS: Final = 256
"""How much of a response is compared and kept."""

_COMPARED_IF_CUT: Final = 192
"""How much of a replaced text is compared if the response is longer: where it is cut depends on the length of ids."""
_MOST_BYTES: Final = 4 * (TEXT_CHARACTERS + 1)
"""More than the first characters of a response take."""
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +"
_MONTH: Final = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
# Numbers, ids, UUIDs, times and IPv4 addresses: words with a digit, joined as in 1,024.5 or 2026-12-03T10:00:00.5Z.
_WORDS: Final = r"[\w-]*\d[\w-]*(?:[.,:+][\w-]*\d[\w-]*)*"
# A listener chooses the text, so the time must be linear: each part begins where its first characters do, and nowhere
# among them. After an address or a date, which can end among them, words with a digit may follow at once.
_VARYING: Final = re.compile(
    r"(?:(?<!\w)(?=[\w.+-])|(?<=\w)(?=:))(?:"
    r"(?<![.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+"  # An email address
    r"|(?:(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}\b)?"  # An IPv6 address, or a time of the day
    rf"|(?:{_DAY})?(?:\d{{1,2}}[ -]{_MONTH}|{_MONTH} +\d{{1,2}})\b)(?:{_WORDS})?"
    rf"|(?<!-){_WORDS}"
    r"|[0-9a-f]{8}(?:-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]*+)\b)",  # Without a digit
    re.IGNORECASE,
)
_PLACEHOLDERS: Final = re.compile(r"#(?:[\s,:.#]*#)*")


class Cause(msgspec.Struct, frozen=True):
    """The cause of a missed delivery: its reason, and the response to its last attempt, if there was one."""

    id: int
    reason: str
    """A value of `MISSED_REASONS`."""
    status: int = 0
    """HTTP status; 0 without a response."""
    text: str = ""
    """The beginning of the response, or why there was none. A listener chose it."""

    @property
    def has_text(self) -> bool:
        return self.id > len(MISSED_REASONS)


def plain(reason: str) -> Cause:
    """Return the cause of deliveries whose last attempt is not known, or whose listener has too many causes."""
    return Cause(MISSED_REASONS.index(reason) + 1, reason)


def plain_reason(cause_id: int) -> str | None:
    """Return the reason of a plain cause; None for others."""
    return MISSED_REASONS[cause_id - 1] if 0 < cause_id <= len(MISSED_REASONS) else None


def cause_of(reason: str, outcome: Outcome) -> Cause:
    """Return the cause of a delivery that this outcome of its last attempt made missed.

    The text is of the response body if its details are kept and may be shown, and otherwise what attempts show.
    """
    status, _, shown = shown_outcome(outcome)
    if outcome.withheld:
        shown = f"answered {status // 100}xx" if status else describe_failure(outcome.error)
    body = "" if outcome.withheld else outcome.excerpt[:_MOST_BYTES].decode("utf-8", "replace")
    text = body if outcome.trace is not None and body.strip() else shown
    alike = f"{reason} {status} {fingerprint(body if body.strip() else shown)}"
    # Above the ids of plain causes.
    number = int.from_bytes(sha256(alike.encode()).digest()[:8]) >> 2 | 1 << 62
    return Cause(number, reason, status, readable(text))


def told_apart(cause: Cause, known: Collection[int]) -> Cause:
    """Return the cause if it is `known` by its id, or there is room for it, and the plain one otherwise.

    A listener that answers differently each time has a bounded number of causes.
    """
    has_room = not cause.has_text or cause.id in known or len(known) < MOST_CAUSES
    return cause if has_room else plain(cause.reason)


def readable(text: str) -> str:
    """Return the beginning of a text in one line, without characters that are invisible or that stores refuse."""
    words = " ".join(text[:TEXT_CHARACTERS].split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in words)


def fingerprint(text: str) -> str:
    """Return a hash of the first characters of a text, in which everything that varies is replaced."""
    replaced = _PLACEHOLDERS.sub("#", _VARYING.sub("#", text[:TEXT_CHARACTERS]))
    if len(text) > TEXT_CHARACTERS:
        replaced = replaced[:_COMPARED_IF_CUT]
    return sha256(replaced.encode()).hexdigest()
