"""The language of the search box: qualifiers such as `key:customer-9`, and a name or an id. Pure."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from discue.dashboard.listing import STATES, STATUS_RULE, is_status
from discue.dashboard.times import instant_of
from discue.domain.errors import BadRequest, DiscueError
from discue.domain.suggestions import suggestion

QUALIFIERS: Final[Mapping[str, str]] = {
    "key": "messages with this key, such as key:customer-9",
    "queue": "a queue, by its name or id, such as queue:orders",
    "listener": "a listener, by its name or id, such as listener:billing",
    "state": "messages in this state: pending, retrying, missed, acknowledged or no_listeners",
    "status": "attempts that were answered with this status, such as status:503 or status:5xx; needs listener:",
    "since": "what was published since then, such as since:2h, since:3d or since:2026-07-01",
}
"""The qualifiers, with their meaning: only what an index finds."""

_LONGEST: Final = 500
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Search(msgspec.Struct, frozen=True):
    """The text of a search, parsed. Fields that it does not have are empty."""

    text: str = ""
    """A name or an id."""
    key: str = ""
    queue: str = ""
    listener: str = ""
    state: str = ""
    status: str = ""
    since: int = 0
    """Milliseconds since the epoch."""

    @property
    def is_about_messages(self) -> bool:
        return bool(self.key or self.state or self.since)


def parse_search(text: str, now: int) -> Search:
    """Parse the text of the search box. Raises BadRequest with a sentence about what is wrong."""
    fields: dict[str, str | int] = {}
    words: list[str] = []
    for word in text[:_LONGEST].split():
        name, colon, value = word.partition(":")
        if not colon:
            words.append(word)
        elif name not in QUALIFIERS:
            known = ", ".join(f"{each}:" for each in QUALIFIERS)
            hint = suggestion(name, tuple(QUALIFIERS))
            raise _wrong(f'"{name}:" is not a qualifier{hint.removesuffix("?")}. The qualifiers are {known}')
        elif not value:
            raise _wrong(f'"{name}:" needs a value right behind the colon')
        else:
            fields[name] = _value(name, value, now)
    if len(words) > 1:
        raise _wrong("Search for one name or id at a time; the data of messages is not searched")
    found = msgspec.convert({**fields, "text": " ".join(words)}, Search)
    if found.status and not found.listener:
        raise _wrong('"status:" needs a listener: add, for example, listener:billing')
    return found


def _value(name: str, value: str, now: int) -> str | int:
    if name == "since":
        return _since(value, now)
    if name == "state" and value not in STATES:
        raise _wrong(f'"state:" is one of {", ".join(STATES)}')
    if name == "status" and not is_status(value):
        raise _wrong(f'"status:" {STATUS_RULE}')
    return value


def _since(value: str, now: int) -> int:
    span = _SPAN.fullmatch(value)
    if span is not None:
        return max(1, now - int(span[1]) * _SECONDS[span[2]] * 1_000)
    try:
        return max(1, instant_of(value, "?q"))
    except DiscueError:
        raise _wrong('"since:" is a time such as 2026-07-01, or a span such as 30m, 2h, 3d or 1w') from None


def _wrong(sentence: str) -> BadRequest:
    return BadRequest(f"{sentence}.", code="invalid_parameter")
