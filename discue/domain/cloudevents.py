"""Messages as CloudEvents 1.0 over HTTP: as headers beside the data, or as one JSON document."""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from discue.domain.headers import Headers
from discue.domain.model import DeliveryFormat, Entry

DEFAULT_TYPE: Final = "io.discue.message"
STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

_PREFIX: Final = "ce-"
_ATTRIBUTE: Final = re.compile(r"ce-([a-z0-9]{1,64})")
_NOT_ATTRIBUTES: Final = frozenset({"specversion", "datacontenttype", "data"})
_OURS: Final = _NOT_ATTRIBUTES | {"id", "time"}

_encode: Final = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """What is sent: a body, what it is, and the headers that are not the service's own."""

    body: bytes
    media_type: str
    headers: Headers


def event_of(
    entry: Entry, kind: DeliveryFormat, queue_public_id: str, headers: Headers, media_type: str | None = None
) -> Event:
    """A message in one of the two modes. Headers called `ce-…` give the event's type, source and other attributes.

    With a `media_type` it was published as an event: then they give all of them, and it is what the data is.
    """
    given = {match[1]: value for name, value in headers if (match := _ATTRIBUTE.fullmatch(name.lower()))}
    attributes = {
        "specversion": "1.0",
        "id": entry.id,
        "source": f"/v1/queues/{queue_public_id}",
        "type": DEFAULT_TYPE,
    }
    ours = _NOT_ATTRIBUTES
    if media_type is None:
        attributes["time"] = _written(entry.stored_at)
        media_type, ours = JSON if entry.is_json else TEXT, _OURS
    attributes |= {name: value for name, value in given.items() if name not in ours and value}
    rest = tuple(each for each in headers if _ATTRIBUTE.fullmatch(each[0].lower()) is None)
    if kind == "cloudevents_binary":
        own = tuple((_PREFIX + name, value) for name, value in attributes.items())
        return Event(entry.body, media_type, (*own, *rest))
    return Event(_document(attributes, media_type, entry), STRUCTURED, rest)


def _document(attributes: dict[str, str], media_type: str, entry: Entry) -> bytes:
    """The data stands in it byte for byte where it is JSON, and as a string where it is not."""
    # Over HTTP, header values are percent-encoded; in a document they are not.
    known = {name: unquote(value) for name, value in attributes.items()}
    if not media_type:
        return _encode(known)
    data = entry.body if entry.is_json else _encode(entry.body.decode())
    return _encode({**known, "datacontenttype": media_type})[:-1] + b',"data":' + data + b"}"


def _written(instant: int) -> str:
    """An instant as RFC 3339 has it."""
    seconds, milliseconds = divmod(instant, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"
