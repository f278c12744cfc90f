"""Decoding of request bodies, JSON and CloudEvents, and errors that name the place of a fault."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar

import msgspec

from discue.api.structs import NOT_SENT, READ_ONLY, Body
from discue.domain import cloudevents
from discue.domain.cloudevents import PREFIX, EventMessage
from discue.domain.errors import BadRequest, Fault, PayloadTooLarge, below, escaped, invalid
from discue.domain.json_text import MOST_LEVELS, SHORTEST_TOO_DEEP, is_too_deep
from discue.domain.suggestions import alternatives
from discue.http.negotiation import is_json, is_of_type
from discue.http.pipeline import given_twice
from discue.http.rsgi import HttpHeaders

B = TypeVar("B", bound=Body)
T = TypeVar("T")

CLOUDEVENT: Final = "application/cloudevents+json"
CLOUDEVENTS_BATCH: Final = "application/cloudevents-batch+json"

EventFormat = Literal["one", "many"]
"""The CloudEvents that a route accepts: one event, or a batch."""

_Attributes = dict[str, msgspec.Raw]

_SHORTEST_MEMBER = 9
"""Bytes of the shortest member that a body can repeat, with its comma: `"data":1,`."""

_OPAQUE = "data"
"""The member that may hold any JSON of the client's: duplicates in it are allowed."""

_EPOCH = "milliseconds since the epoch"
"""The unit of times. The description of every time contains it."""

_LONG_BYTES = 256
_SKELETON_BYTES = 65_536
_SKELETON_BYTES_EACH = 512

_FAULT = re.compile(r"(.*?)(?: - at `\$([^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_JSON_TYPES = {
    "str": "a string",
    "int": "an integer",
    "bool": "a boolean",
    "float": "a number",
    "object": "an object",
    "array": "an array",
}
# Not at the end of the body: there, the other half may be what is missing.
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F]|[\\u0-9a-fA-F]{0,5}\Z)"
)
_UNDECODABLE = (UnicodeDecodeError, msgspec.DecodeError, RecursionError, json.JSONDecodeError)
_SHOWN_NAME = 100

_read_event = msgspec.json.Decoder(_Attributes).decode
_read_events = msgspec.json.Decoder(list[_Attributes]).decode
_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder(order="sorted").encode


class BodyDecoder(Generic[B]):
    """Decodes bodies of one type."""

    def __init__(self, kind: type[B]) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, content: bytes) -> B:
        """Decode a body; an empty one is an empty object. Raises PayloadTooLarge, and BadRequest with a pointer."""
        try:
            # The decoder skips raw values after checking their syntax only, so UTF-8 must be checked here.
            content.decode()
            body = self._decode(content or b"{}")
            if len(content) >= SHORTEST_TOO_DEEP:
                _reject_deep(body.opaque())
            # The decoder takes the last of two members with the same name. A second one needs room beyond the
            # shortest JSON of this value, so most bodies are known to have none without parsing them again.
            if len(content) - body.least_bytes() >= _SHORTEST_MEMBER:
                _reject_duplicates(_skeleton(content, body.opaque()))
        except _UNDECODABLE as error:
            _explain(error, self._kind, content)
        return body


class EventBody(msgspec.Struct, frozen=True):
    """CloudEvents instead of a JSON body."""

    events: tuple[EventMessage, ...]
    content: bytes
    """Everything that distinguishes this request from others."""


def event_reader(headers: HttpHeaders, accepted: EventFormat) -> Callable[[bytes], EventBody] | None:
    """Return the reader of the events that the headers announce; None if they announce none."""
    media_type = headers.get("content-type", "")
    # Most requests are plain JSON, which the cached check of the media type shows.
    if not is_json(media_type):
        if accepted == "many":
            return _batch if is_of_type(media_type, CLOUDEVENTS_BATCH) else None
        if is_of_type(media_type, CLOUDEVENT):
            return _structured
    if accepted == "many" or f"{PREFIX}specversion" not in headers:
        return None
    return lambda content: _binary(headers, media_type, content)


def _structured(content: bytes) -> EventBody:
    attributes = _decode_events(_read_event, content, lambda event: _event_data([event]))
    return EventBody((cloudevents.parse_structured_event(attributes),), content)


def _batch(content: bytes) -> EventBody:
    documents = _decode_events(_read_events, content, _event_data)
    events = [cloudevents.parse_structured_event(event, f"/{index}") for index, event in enumerate(documents)]
    return EventBody(tuple(events), content)


def _binary(headers: HttpHeaders, media_type: str, content: bytes) -> EventBody:
    attributes: dict[str, str] = {}
    for name in headers.keys():  # noqa: SIM118 - it is no mapping
        if not name.startswith(PREFIX):
            continue
        values = headers.get_all(name)
        if not values:
            raise invalid(f"/headers/{name}", "must be printable ASCII: percent-encode the rest")
        if len(values) > 1:
            raise given_twice(name)
        attributes[name.removeprefix(PREFIX)] = values[0]
    event = cloudevents.parse_binary_event(attributes, media_type, content)
    return EventBody((event,), _pack((attributes, media_type, content)))


def _event_data(events: Sequence[_Attributes]) -> list[msgspec.Raw]:
    return [value for event in events for name, value in event.items() if name in {"data", "data_base64"}]


def _decode_events(decode: Callable[[bytes], T], content: bytes, opaque: Callable[[T], Sequence[msgspec.Raw]]) -> T:
    """Decode events with the same checks as other bodies. `opaque` returns the values that may hold any JSON."""
    try:
        content.decode()
        value = decode(content)
        _reject_deep(opaque(value))
        _reject_duplicates(_skeleton(content, opaque(value)))
    except _UNDECODABLE as error:
        _explain(error, None, content)
    return value


def _reject_deep(values: Sequence[msgspec.Raw]) -> None:
    if any(len(value) >= SHORTEST_TOO_DEEP and is_too_deep(bytes(value)) for value in values):
        raise RecursionError


def _explain(error: Exception, kind: type[Body] | None, content: bytes) -> NoReturn:
    if isinstance(error, json.JSONDecodeError):
        # Happens only if one of the opaque values also occurs across the borders of others.
        raise BadRequest("The body is ambiguous: send each field once.", code="duplicate_field") from None
    if isinstance(error, UnicodeDecodeError):
        raise BadRequest(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    if isinstance(error, RecursionError):
        rule = f"at most {MOST_LEVELS} levels are allowed"
        raise BadRequest(f"The body is nested too deeply: {rule}.", code="invalid_json") from None
    if not isinstance(error, msgspec.ValidationError):
        message = (
            str(error).removeprefix("JSON is malformed: ").replace("Input data was truncated", "it ends too early")
        )
        # The decoder looks for the other half at the bytes that follow, and reports what it finds there.
        if re.search("too early|escape", message) and (lone := _LONE_SURROGATE.search(content)):
            message = f"{lone[1].decode()} (byte {lone.start(1)}) is half of a surrogate pair: send both halves"
        raise BadRequest(f"The body is not JSON: {message}.", code="invalid_json") from None
    raise body_error(str(error), kind, content) from None


def body_error(message: str, kind: type[Body] | None, content: bytes = b"") -> BadRequest:
    """Return the error for an error message of msgspec about a body of this type, which was decoded from `content`."""
    match = _FAULT.fullmatch(message)
    what, path = match.groups() if match else (message, "")
    steps = [step[1] or step[2] or "*" for step in _STEP.finditer(path or "")]
    pointer, code = "".join(f"/{step}" for step in steps), "wrong_type"
    if pointer.endswith("/headers/*") and (sent := _sent(content, steps[:-2])):
        wrong = (name for name, value in (sent.headers or {}).items() if bytes(value)[:1] != b'"')
        pointer = below(pointer.removesuffix("/*"), next(wrong, "*"))
    types = [] if kind is None else [*_types_at(_type_of(kind), steps)]
    if unknown := _UNKNOWN.fullmatch(what):
        code, name = "unknown_field", unknown[1][:_SHOWN_NAME]
        hint = _hint(name, [each for each in types if isinstance(each, msgspec.inspect.StructType)], steps, content)
        fault = Fault(below(pointer, name), f"is not a known field{hint}")
    elif missing := _MISSING.fullmatch(what):
        code, fault = "missing_field", Fault(f"{pointer}/{missing[1]}", "is required")
    elif expected := _EXPECTED.fullmatch(what):
        wanted = f"a time in {_EPOCH}" if any(map(_is_time, types)) else _json_types(expected[1])
        fault = Fault(pointer, f"must be {wanted}, not {_json_types(expected[2])}")
    else:
        fault = Fault(pointer, f"is invalid: {what[:1].lower()}{what[1:]}")
    end = "" if fault.detail.endswith("?") else "."
    detail = f"The body is invalid: {fault.pointer or 'it'} {fault.detail}{end}"
    return BadRequest(detail, code=code, faults=(fault,))


_type_of = cache(msgspec.inspect.type_info)


def _types_at(kind: msgspec.inspect.Type, steps: Sequence[str]) -> Iterator[msgspec.inspect.Type]:
    """Yield the types that a value at a place of a body can have."""
    if not steps:
        yield kind
    inner: list[msgspec.inspect.Type] = []
    rest = steps[1:]
    if isinstance(kind, msgspec.inspect.UnionType | msgspec.inspect.Metadata):
        inner = list(kind.types) if isinstance(kind, msgspec.inspect.UnionType) else [kind.type]
        rest = steps
    elif isinstance(kind, msgspec.inspect.StructType) and steps:
        inner = [field.type for field in kind.fields if field.encode_name == steps[0]]
    elif isinstance(kind, msgspec.inspect.CollectionType) and steps:
        inner = [kind.item_type]
    elif isinstance(kind, msgspec.inspect.DictType) and steps:
        inner = [kind.value_type]
    for each in inner:
        yield from _types_at(each, rest)


def _is_time(kind: msgspec.inspect.Type) -> bool:
    described = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    return described is not None and _EPOCH in described.get("description", "")


class _SentFields(msgspec.Struct):
    """The fields of a message that errors depend on. Others are skipped and take no memory."""

    data: msgspec.Raw = NOT_SENT
    data_base64: msgspec.Raw = NOT_SENT
    headers: dict[str, msgspec.Raw] | None = None


class _SentBatch(msgspec.Struct):
    messages: list[_SentFields]


_sent_message = msgspec.json.Decoder(_SentFields).decode
_sent_batch = msgspec.json.Decoder(_SentBatch).decode


def _hint(name: str, kinds: Sequence[msgspec.inspect.StructType], steps: Sequence[str], content: bytes) -> str:
    """Return the end of the error about an unknown field: its remedy."""
    hint = alternatives(name, [field.encode_name for kind in kinds for field in kind.fields if not _is_ignored(field)])
    needs_data = any(_OPAQUE in kind.cls.exactly_one for kind in kinds if issubclass(kind.cls, Body))
    if not needs_data or hint == alternatives(_OPAQUE, [_OPAQUE]):
        return hint
    sent = _sent(content, steps)
    return hint if sent is None or sent.data or sent.data_base64 else '; wrap it in `data`: {"data": {…}}'


def _sent(content: bytes, steps: Sequence[str]) -> _SentFields | None:
    """Return the fields of the message, or other body, at a place; None if the body has another fault after it."""
    try:
        return _sent_batch(content).messages[int(steps[-1])] if steps else _sent_message(content)
    except _UNDECODABLE:
        return None


def _is_ignored(field: msgspec.inspect.Field) -> bool:
    described = field.type.extra_json_schema if isinstance(field.type, msgspec.inspect.Metadata) else None
    return described is not None and described.get("description") == READ_ONLY


def _json_types(names: str) -> str:
    return " or ".join(_JSON_TYPES.get(name, name) for name in names.split(" | "))


class _Members(tuple[tuple[str, Any], ...]):
    """The members of an object as they were sent, including duplicates."""

    __slots__ = ()


# Numbers stay text: only names matter here, and converting a very long number takes long.
_AS_WRITTEN = json.JSONDecoder(object_pairs_hook=_Members, parse_int=str, parse_float=str)


def _skeleton(content: bytes, opaque: Sequence[msgspec.Raw]) -> str:
    """Return the body with 0 instead of long opaque values.

    The search for duplicates runs on the event loop, so its cost must not grow with the data of messages.
    """
    pieces, position = [], 0
    for value in opaque:
        if len(value) >= _LONG_BYTES and (found := content.find(value, position)) >= 0:
            pieces += [content[position:found], b"0"]
            position = found + len(value)
    pieces.append(content[position:])
    size = sum(map(len, pieces))
    most = _SKELETON_BYTES + _SKELETON_BYTES_EACH * len(opaque)
    if size > most and not any(len(value) for value in opaque):
        raise PayloadTooLarge(f"The fields of the body have {size} bytes together; at most {most} are allowed.")
    if size > most:
        fields = f'The fields besides "data" are too large: {size} bytes together, of at most {most}'
        raise BadRequest(f'{fields}. Or "data" occurs twice.', code="duplicate_field")
    return b"".join(pieces).decode()


def _reject_duplicates(text: str) -> None:
    pointer = _duplicate(_AS_WRITTEN.decode(text), "")
    if pointer is not None:
        fault = Fault(pointer, "occurs twice")
        raise BadRequest(f"The body is ambiguous: {pointer} occurs twice.", code="duplicate_field", faults=(fault,))


def _duplicate(value: object, pointer: str) -> str | None:
    """Return the pointer of the first member with the name of an earlier one."""
    if isinstance(value, list):
        found = (_duplicate(element, f"{pointer}/{index}") for index, element in enumerate(value))
        return next((each for each in found if each is not None), None)
    if not isinstance(value, _Members):
        return None
    seen = set()
    for name, inner in value:
        at = f"{pointer}/{escaped(name[:_SHOWN_NAME])}"
        if name in seen:
            return at
        seen.add(name)
        if name != _OPAQUE and (duplicate := _duplicate(inner, at)) is not None:
            return duplicate
    return None
