"""Sentences of the API as pages show them: with times that people read, and for customers in words of the portal."""

import re
from datetime import datetime
from typing import Final

from markupsafe import Markup, escape

from discue.dashboard import formats

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
    parts, end = Markup(), 0
    shown = worded(text, for_customer=for_customer)
    for found in _TIME.finditer(shown):
        instant = round(datetime.fromisoformat(found[0]).timestamp() * 1_000)
        parts += _with_code(shown[end : found.start()]) + formats.instant(instant)
        end = found.end()
    return parts + _with_code(shown[end:])


def _with_code(text: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - the text is escaped
