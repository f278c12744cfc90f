"""CloudEvents 1.0 as producers send them over HTTP: what of them is acceptable, and which message each is."""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.headers import BYTES, LIMIT, Headers
from discue.domain.json_pointer import below

PREFIX: Final = "ce-"
JSON: Final = "application/json"
KEY_CHARACTERS: Final = range(1, 256)
REQUIRED: Final = ("specversion", "id", "source", "type")

_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[!-~ \t]*)?")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
_LITERAL: Final = "!#$&'()*+,/:;=?@[]~-._<>\\^`{|}"
"""What stands for itself in a header: every visible character of ASCII but `%` and `"`."""
_DATA: Final = ("data", "data_base64")
_NULL: Final = msgspec.Raw(b"null")
_TEXT: Final = re.compile("[^\\x00-\\x1f\\x7f-\\x9f]+")
_URI: Final = re.compile(r"\S+")

_check_syntax: Callable[[bytes], object] = msgspec.json.Decoder(msgspec.Raw).decode
_value_of: Callable[[msgspec.Raw], object] = msgspec.json.Decoder().decode


def _is_time(value: str) -> bool:
    if _TIME.fullmatch(value) is None:
        return False
    try:
        # Of a leap second the last one before it is looked at.
        datetime.fromisoformat(re.sub(r":60", ":59", value[:19]))
    except ValueError:
        return False
    return True


_FORMS: Final[Mapping[str, tuple[Callable[[str], object], str]]] = {
    "specversion": ("1.0".__eq__, "must be 1.0"),
    "source": (_URI.fullmatch, "must be a URI"),
    "dataschema": (_URI.fullmatch, "must be a URI"),
    "time": (_is_time, "must be a time as RFC 3339 has it, such as 2026-07-01T12:00:00Z"),
    "partitionkey": (lambda value: len(value) in KEY_CHARACTERS, "must have 255 characters at most"),
}
"""The form of attributes that have one, and how it is said."""


class EventMessage(msgspec.Struct, frozen=True):
    """The message that an event is. Its attributes are headers called `ce-…`, as they would be sent.

    `media_type` is what the data is, and "" for an event that has none. `pointer` says where the data stood.
    """

    data: bytes
    is_json: bool
    headers: Headers
    key: str | None
    media_type: str
    pointer: str = ""


def of_headers(attributes: Mapping[str, str], media_type: str, data: bytes) -> EventMessage:
    """An event in binary mode: attributes by their names, percent-encoded, and data of that type.

    Raises BadRequest and Unprocessable with a pointer for each attribute, below `/headers`.
    """
    if "datacontenttype" in attributes:
        raise _unfit(f"/headers/{PREFIX}datacontenttype", "is the Content-Type where an event comes in headers")
    values = {name: _decoded(value, f"/headers/{PREFIX}{name}") for name, value in attributes.items()}
    _check_attributes(values, "/headers", PREFIX)
    if not data:
        return _message(values, b"", "", "")
    if not media_type:
        raise _unfit("", "needs a Content-Type")
    return _message(values, data, _checked_type(media_type, "/headers/content-type"), "")


def of_document(members: Mapping[str, msgspec.Raw], place: str = "") -> EventMessage:
    """An event in structured mode, by the members of its document. Raises what `of_headers` raises, below `place`."""
    values = {
        name: text
        for name, value in members.items()
        if name not in _DATA and (text := _text(value, below(place, name))) is not None
    }
    _check_attributes(values, place, "")
    declared = values.pop("datacontenttype", None)
    media_type = JSON if declared is None else _checked_type(declared, f"{place}/datacontenttype")
    data, encoded = members.get("data"), members.get("data_base64", _NULL)
    if bytes(encoded) != b"null":
        if data is not None and bytes(data) != b"null":
            raise _unfit(f"{place}/data_base64", "cannot stand beside data")
        return _message(values, _bytes_of(encoded, f"{place}/data_base64"), media_type, f"{place}/data")
    if data is None:
        return _message(values, b"", "" if declared is None else media_type, f"{place}/data")
    return _message(values, _data_of(data, media_type, f"{place}/data"), media_type, f"{place}/data")


def is_json_type(media_type: str) -> bool:
    """Whether data of that type is JSON."""
    subtype = media_type.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _message(values: Mapping[str, str], data: bytes, media_type: str, pointer: str) -> EventMessage:
    is_json = bool(media_type and data) and is_json_type(media_type)
    _check_data(data, pointer, is_json=is_json)
    headers = tuple((PREFIX + name, quote(value, safe=_LITERAL)) for name, value in values.items())
    if len(headers) > LIMIT or sum(len(name) + len(value) for name, value in headers) > BYTES:
        rule = f"must have at most {LIMIT} attributes, with {BYTES} characters in all as headers"
        raise Unprocessable(f"The event {rule}.", faults=(Fault("", rule),))
    return EventMessage(data, is_json, headers, values.get("partitionkey"), media_type, pointer)


def _check_data(data: bytes, pointer: str, *, is_json: bool) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        rule = f"must be text in UTF-8 (see byte {error.start}): send what is not as text, in base64"
        raise _unfit(pointer, rule) from None
    if is_json:
        try:
            _check_syntax(data)
        except (msgspec.DecodeError, RecursionError):
            rule = "is not JSON, as its type says"
            raise BadRequest(f"The event's data {rule}.", faults=(Fault(pointer, rule),)) from None


def _check_attributes(values: Mapping[str, str], place: str, prefix: str) -> None:
    for name in REQUIRED:
        if name not in values:
            pointer = below(place, prefix + name)
            raise BadRequest(f"The event has no {prefix}{name}.", faults=(Fault(pointer, "is required"),))
    for name, value in values.items():
        rule = _broken(name, value)
        if rule:
            raise _unfit(below(place, prefix + name), rule)


def _broken(name: str, value: str) -> str:
    """What is wrong with an attribute; "" for nothing."""
    if _NAME.fullmatch(name) is None or name == "data":
        return "is not the name of an attribute: 1 to 64 characters of a-z and 0-9"
    if _TEXT.fullmatch(value) is None:
        return "must have 1 character at least, and no control characters"
    known = _FORMS.get(name)
    return "" if known is None or known[0](value) else known[1]


def _text(value: msgspec.Raw, pointer: str) -> str | None:
    """An attribute as text, as a header would have it. None: it is not there."""
    read = _value_of(value)
    if read is None:
        return None
    if isinstance(read, bool):
        return "true" if read else "false"
    if isinstance(read, int):
        return str(read)
    if not isinstance(read, str):
        raise BadRequest(
            f"The attribute at {pointer} is no string.",
            faults=(Fault(pointer, "must be a string, a whole number, true or false"),),
        )
    return read


def _data_of(value: msgspec.Raw, media_type: str, pointer: str) -> bytes:
    """JSON byte for byte; of another type, what the string says."""
    if is_json_type(media_type):
        return bytes(value)
    read = _value_of(value)
    if not isinstance(read, str):
        raise _unfit(pointer, "must be a string where datacontenttype is not JSON")
    return read.encode()


def _bytes_of(value: msgspec.Raw, pointer: str) -> bytes:
    read = _value_of(value)
    try:
        if isinstance(read, str):
            return b64decode(read, validate=True)
    except ValueError:
        read = None
    raise _unfit(pointer, "must be base64")


def _decoded(value: str, pointer: str) -> str:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise _unfit(pointer, "must be UTF-8 once it is percent-decoded") from None


def _checked_type(media_type: str, pointer: str) -> str:
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        raise _unfit(pointer, "must be a media type")
    return media_type


def _unfit(pointer: str, rule: str) -> Unprocessable:
    what = f"The value at {pointer}" if pointer else "The event's data"
    return Unprocessable(f"{what} {rule}.", faults=(Fault(pointer, rule),))
