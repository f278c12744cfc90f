"""CloudEvents in requests that publish: which requests have them, and reading them."""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from discue.api.decoding import decode_opaque
from discue.api.negotiation import is_json, is_of_type
from discue.api.rsgi import HttpHeaders
from discue.domain import cloudevents
from discue.domain.cloudevents import PREFIX, EventMessage
from discue.domain.errors import BadRequest, Fault, Unprocessable

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

Takes = Literal["one", "many"]
"""What a route takes beside its own bodies: one event, or a batch of them."""

Members = dict[str, msgspec.Raw]

_MARK: Final = f"{PREFIX}specversion"

_read_one = msgspec.json.Decoder(Members).decode
_read_many = msgspec.json.Decoder(list[Members]).decode
_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder(order="sorted").encode


class EventBody(msgspec.Struct, frozen=True):
    """Events in place of a request's body. `content` is all that makes the request what it is."""

    events: tuple[EventMessage, ...]
    content: bytes


def reader_of(headers: HttpHeaders, takes: Takes) -> Callable[[bytes], EventBody] | None:
    """What reads the events that the headers announce; None where they announce none."""
    media_type = headers.get("content-type", "")
    # Most requests are JSON of our own: that is known of their type, and of most nothing else is asked.
    if not is_json(media_type):
        if takes == "many":
            return _batch if is_of_type(media_type, BATCH) else None
        if is_of_type(media_type, STRUCTURED):
            return _document
    if takes == "many" or _MARK not in headers:
        return None
    return lambda content: _of_headers(headers, media_type, content)


def _document(content: bytes) -> EventBody:
    members = decode_opaque(_read_one, content, lambda members: _data_of((members,)))
    return EventBody((cloudevents.parse_structured_event(members),), content)


def _batch(content: bytes) -> EventBody:
    documents = decode_opaque(_read_many, content, _data_of)
    events = [cloudevents.parse_structured_event(members, f"/{place}") for place, members in enumerate(documents)]
    return EventBody(tuple(events), content)


def _of_headers(headers: HttpHeaders, media_type: str, content: bytes) -> EventBody:
    names = filter(lambda name: name.startswith(PREFIX), headers.keys())
    attributes = {name.removeprefix(PREFIX): _value(headers, name) for name in names}
    event = cloudevents.parse_binary_event(attributes, media_type, content)
    return EventBody((event,), _pack((attributes, media_type, content)))


def _value(headers: HttpHeaders, name: str) -> str:
    values = headers.get_all(name)
    if len(values) > 1:
        raise BadRequest(f"The header {name} can be given once only.")
    if not values:
        rule = "must be printable ASCII: percent-encode the rest"
        raise Unprocessable(f"The header {name} {rule}.", faults=(Fault(f"/headers/{name}", rule),))
    return values[0]


def _data_of(documents: "list[Members] | tuple[Members, ...]") -> list[msgspec.Raw]:
    return [value for members in documents for name, value in members.items() if name in {"data", "data_base64"}]
