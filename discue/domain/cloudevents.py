"""CloudEvents 1.0 over HTTP: messages as events for listeners, and events from producers as messages."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from discue.domain.clock import rfc3339
from discue.domain.errors import below, invalid, malformed, missing_field
from discue.domain.event_types import is_type
from discue.domain.headers import MAX_CHARACTERS, MAX_HEADERS, Headers
from discue.domain.json_text import decode_value
from discue.domain.message_data import (
    BYTES,
    DEFAULT_MEDIA_TYPES,
    JSON_MEDIA_TYPE,
    JSON_VALUE,
    TEXT,
    Codec,
    Data,
    check_media_type,
    data_of,
    data_of_base64,
    is_json,
    is_json_text,
    is_json_type,
)
from discue.domain.messages import Entry

DeliveryFormat = Literal["plain", "cloudevents_binary", "cloudevents_structured"]
"""How requests to a listener carry a message: as plain data, or as a CloudEvent."""

DEFAULT_TYPE: Final = "io.discue.message"
STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"
PREFIX: Final = "ce-"

# Events for listeners

_ATTRIBUTE_HEADER: Final = re.compile(r"ce-([a-z0-9]{1,64})")
_NOT_CUSTOM: Final = frozenset({"specversion", "datacontenttype", "data", "traceparent", "tracestate"})
_NOT_CUSTOM_IN_MESSAGES: Final = _NOT_CUSTOM | {"id", "time"}

_encode: Final = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """An event, ready to be sent."""

    body: bytes
    media_type: str
    """Value of the Content-Type header; "" for none."""
    headers: Headers
    """Headers other than those that discue adds to every request."""


def event_of(
    entry: Entry,
    kind: DeliveryFormat,
    queue_public_id: str,
    headers: Headers,
    *,
    event_type: str | None = None,
    media_type: str | None = None,
    content_type: str | None = None,
    traceparent: str = "",
) -> Event:
    """Return a message as an event. Headers named `ce-…` set its source and other attributes, and replace its type.

    `media_type` is not None if the message was published as an event. Then the headers contain all attributes, `id` and
    `time` included, and `media_type` is that of its data. Other messages may have a `content_type`. A `traceparent`
    that is not empty becomes the attribute of the distributed tracing extension.
    """
    given = {match[1]: value for name, value in headers if (match := _ATTRIBUTE_HEADER.fullmatch(name.lower()))}
    attributes = {
        "specversion": "1.0",
        "id": entry.id,
        "source": f"/v1/queues/{queue_public_id}",
        "type": DEFAULT_TYPE if event_type is None else quote(event_type, safe=_UNENCODED),
    }
    excluded = _NOT_CUSTOM
    if media_type is None:
        attributes["time"] = rfc3339(entry.stored_at)
        media_type, excluded = content_type or DEFAULT_MEDIA_TYPES[entry.codec], _NOT_CUSTOM_IN_MESSAGES
    # Headers may override type, source and any other attribute except the excluded ones.
    attributes |= {name: value for name, value in given.items() if name not in excluded and value}
    if traceparent:
        attributes["traceparent"] = traceparent
    rest = tuple(each for each in headers if _ATTRIBUTE_HEADER.fullmatch(each[0].lower()) is None)
    if kind == "cloudevents_binary":
        own = tuple((PREFIX + name, value) for name, value in attributes.items())
        return Event(entry.body, media_type, (*own, *rest))
    return Event(_document(attributes, media_type, entry), STRUCTURED, rest)


def _document(attributes: dict[str, str], media_type: str, entry: Entry) -> bytes:
    """Return a structured-mode document. JSON data is embedded byte for byte, text as a string, bytes in base64."""
    # Header values are percent-encoded; values in a document are not.
    values = {name: unquote(value) for name, value in attributes.items()}
    if not media_type:
        return _encode(values)
    values |= {"datacontenttype": media_type}
    if entry.codec == BYTES:
        return _encode({**values, "data_base64": b64encode(entry.body).decode()})
    data = entry.body if is_json(entry.codec) else _encode(entry.body.decode())
    # Spliced in: decoding and encoding the data would change numbers and drop repeated members.
    return _encode(values)[:-1] + b',"data":' + data + b"}"


# Events from producers

KEY_CHARACTERS: Final = range(1, 256)
REQUIRED: Final = ("specversion", "id", "source", "type")

_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
_UNENCODED: Final = "!#$&'()*+,/:;=?@[]~-._<>\\^`{|}"
"""Characters that a header value contains unencoded: visible ASCII except `%` and `"`."""
_DATA_MEMBERS: Final = ("data", "data_base64")
_NULL: Final = msgspec.Raw(b"null")
_NO_DATA: Final = (b"", TEXT)
_TEXT: Final = re.compile("[^\\x00-\\x1f\\x7f-\\x9f]+")
_URI: Final = re.compile(r"\S+")


def _is_time(value: str) -> bool:
    if _TIME.fullmatch(value) is None:
        return False
    try:
        # RFC 3339 allows leap seconds, Python does not: check the second before.
        datetime.fromisoformat(re.sub(r":60", ":59", value[:19]))
    except ValueError:
        return False
    return True


_FORMATS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "specversion": ("1.0".__eq__, "must be 1.0"),
    "source": (_URI.fullmatch, "must be a URI"),
    "dataschema": (_URI.fullmatch, "must be a URI"),
    "time": (_is_time, "must be an RFC 3339 time, such as 2026-07-01T12:00:00Z"),
    "partitionkey": (lambda value: len(value) in KEY_CHARACTERS, "must have at most 255 characters"),
}
"""For attributes with a format, the check and the rule."""


class EventMessage(msgspec.Struct, frozen=True):
    """An event as the message to publish. Its attributes become headers named `ce-…`."""

    data: bytes
    codec: Codec
    headers: Headers
    key: str | None
    """Ordering key, from the attribute `partitionkey`."""
    type: str | None
    """Type of the message; None if the type of the event does not have the form of one."""
    media_type: str
    """Media type of the data; "" without data."""
    pointer: str = ""
    """JSON pointer to the data in the request; "" if it is the whole body."""


def parse_binary_event(attributes: Mapping[str, str], media_type: str, data: bytes) -> EventMessage:
    """Parse an event in binary mode. `attributes` are the headers without `ce-`, percent-encoded.

    Raises BadRequest and Unprocessable, with pointers below `/headers`.
    """
    if "datacontenttype" in attributes:
        raise invalid(f"/headers/{PREFIX}datacontenttype", "must be given as Content-Type in binary mode")
    values = {name: _percent_decoded(value, f"/headers/{PREFIX}{name}") for name, value in attributes.items()}
    _check_attributes(values, "/headers", PREFIX)
    if not data:
        return _message(values, _NO_DATA, "", "")
    if not media_type:
        raise invalid("", "needs the header Content-Type with the media type of the data")
    media_type = check_media_type(media_type, "/headers/content-type")
    content, codec = _data_of_bytes(data, media_type, "")
    if codec == BYTES and _is_utf8(content):
        codec = TEXT
    return _message(values, (content, codec), media_type, "")


def parse_structured_event(members: Mapping[str, msgspec.Raw], pointer: str = "") -> EventMessage:
    """Parse an event in structured mode. `members` are those of the document at `pointer`.

    Raises BadRequest and Unprocessable, with pointers below `pointer`.
    """
    values = {
        name: text
        for name, value in members.items()
        if name not in _DATA_MEMBERS and (text := _attribute_text(value, below(pointer, name))) is not None
    }
    _check_attributes(values, pointer, "")
    declared = values.pop("datacontenttype", None)
    media_type = JSON_MEDIA_TYPE if declared is None else check_media_type(declared, f"{pointer}/datacontenttype")
    data, encoded = members.get("data"), members.get("data_base64", _NULL)
    if bytes(encoded) != b"null":
        pointer += "/data_base64"
        if data is not None and bytes(data) != b"null":
            raise invalid(pointer, "cannot be combined with data", code="conflicting_fields")
        content, _ = data_of_base64(encoded, pointer)
        return _message(values, _data_of_bytes(content, media_type, pointer), media_type, pointer)
    pointer += "/data"
    if data is None:
        return _message(values, _NO_DATA, "" if declared is None else media_type, pointer)
    if not is_json_type(media_type) and not bytes(data).startswith(b'"'):
        raise invalid(pointer, "must be a string, because datacontenttype is not JSON")
    return _message(values, data_of(data, media_type), media_type, pointer)


def _message(values: Mapping[str, str], data: Data, media_type: str, pointer: str) -> EventMessage:
    headers = tuple((PREFIX + name, quote(value, safe=_UNENCODED)) for name, value in values.items())
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_CHARACTERS:
        raise invalid("", f"must have at most {MAX_HEADERS} attributes, with {MAX_CHARACTERS} characters as headers")
    event_type = values["type"] if is_type(values["type"]) else None
    return EventMessage(*data, headers, values.get("partitionkey"), event_type, media_type, pointer)


def _data_of_bytes(content: bytes, media_type: str, pointer: str) -> Data:
    """Return bytes as the JSON that they are according to their media type, else as bytes. Raises BadRequest."""
    if not content or not is_json_type(media_type):
        return content, BYTES
    if not _is_utf8(content) or not is_json_text(content):
        raise malformed(pointer, "must be JSON, according to its media type")
    return content, JSON_VALUE


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_attributes(values: Mapping[str, str], pointer: str, prefix: str) -> None:
    for name in REQUIRED:
        if name not in values:
            raise missing_field(below(pointer, prefix + name), "is required")
    for name, value in values.items():
        rule = _broken_rule(name, value)
        if rule:
            raise invalid(below(pointer, prefix + name), rule)


def _broken_rule(name: str, value: str) -> str:
    """Return the rule that an attribute breaks, "" if none."""
    if _NAME.fullmatch(name) is None or name == "data":
        return "is not an attribute name: 1 to 64 characters of a-z and 0-9"
    if _TEXT.fullmatch(value) is None:
        return "must have at least 1 character, and no control characters"
    known = _FORMATS.get(name)
    return "" if known is None or known[0](value) else known[1]


def _attribute_text(value: msgspec.Raw, pointer: str) -> str | None:
    """Return an attribute in the form of a header value; None if it is null."""
    decoded = decode_value(value)
    if decoded is None:
        return None
    if isinstance(decoded, bool):
        return "true" if decoded else "false"
    if isinstance(decoded, int):
        return str(decoded)
    if not isinstance(decoded, str):
        raise malformed(pointer, "must be a string, an integer, true or false")
    return decoded


def _percent_decoded(value: str, pointer: str) -> str:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise invalid(pointer, "must be percent-encoded UTF-8") from None
