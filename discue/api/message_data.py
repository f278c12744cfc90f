"""The data of messages in requests and responses: `data` or `data_base64`, and its `content_type`."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import UnsetType

from discue.api.structs import AsSent, Text, doc, text_given
from discue.domain.errors import invalid, missing_field
from discue.domain.message_data import (
    BYTES,
    MEDIA_TYPE_CHARACTERS,
    MEDIA_TYPE_PATTERN,
    Codec,
    Data,
    SentData,
    as_sent,
    check_media_type,
    data_of,
    data_of_base64,
    pieces_as_sent,
)
from discue.store.time_slice import ON_THREAD_BYTES, TimeSlice

CONTENT_TYPE: Final = doc(
    "The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default: "
    "`application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and "
    "`application/octet-stream` for `data_base64`.",
    "application/xml",
    pattern=MEDIA_TYPE_PATTERN,
    maxLength=MEDIA_TYPE_CHARACTERS,
)
_BASE64_TEXT: Final = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
BASE64: Final = doc(
    "Bytes, in base64, instead of `data`. A queue with a schema does not accept them.",
    "iVBORw0KGgo=",
    anyOf=[_BASE64_TEXT, {"type": "null"}],
)
_SHOWN_BASE64: Final = doc("The data, if it was sent as `data_base64`.", "iVBORw0KGgo=", **_BASE64_TEXT)
_SHOWN_TYPE: Final = doc("The media type of the data, if it was published with one.", "application/xml")

EITHER_DATA: Final[Mapping[str, Mapping[str, Any]]] = {"data": {}, "data_base64": {"type": "string"}}
"""The fields of which a body has exactly one, each with the schema of a value that counts as sent: null counts as data,
and not as base64."""

Base64Sent: TypeAlias = Annotated[AsSent, BASE64]
ContentTypeSent: TypeAlias = Annotated[Text, CONTENT_TYPE]
DataShown: TypeAlias = Annotated[
    AsSent | UnsetType, doc("The data, in the form in which it was sent.", {"order": 17, "state": "paid"})
]
Base64Shown: TypeAlias = Annotated[str | UnsetType, _SHOWN_BASE64]
ContentTypeShown: TypeAlias = Annotated[str | UnsetType, _SHOWN_TYPE]

_NULL: Final = b"null"


def sent_data(data: AsSent, data_base64: AsSent, pointer: str) -> SentData | None:
    """Return the data that a body at `pointer` has, None if it has none. Raises Unprocessable if it has both."""
    if not data_base64 or bytes(data_base64) == _NULL:
        return SentData(bytes(data)) if data else None
    if data:
        raise invalid(f"{pointer}/data_base64", "cannot be combined with data", code="conflicting_fields")
    return SentData(bytes(data_base64), is_base64=True)


def content_type_given(sent: Text, pointer: str) -> str | None:
    """Raises Unprocessable."""
    given = text_given(sent)
    return None if given is None else check_media_type(given, f"{pointer}/content_type")


def data_given(data: AsSent, data_base64: AsSent, content_type: str | None, pointer: str) -> tuple[Data, str]:
    """Return the data of a body, and the JSON pointer to it. Raises BadRequest without data, and Unprocessable."""
    sent = sent_data(data, data_base64, pointer)
    if sent is None:
        raise missing_field(f"{pointer}/data", "is required")
    if sent.is_base64:
        return data_of_base64(sent.value, f"{pointer}/data_base64"), f"{pointer}/data_base64"
    return data_of(sent.value, content_type), f"{pointer}/data"


async def fields_of_any_data(body: bytes, codec: Codec) -> dict[str, Any]:
    """Return the result of `data_fields`. Lets other tasks run if the data is large."""
    if len(body) <= ON_THREAD_BYTES:
        return data_fields(body, codec)
    pieces, time_slice = list[bytes](), TimeSlice()
    for piece in pieces_as_sent(body, codec):
        pieces.append(piece)
        await time_slice.pause_if_over()
    return {"data_base64" if codec == BYTES else "data": msgspec.Raw(b"".join(pieces))}


def data_fields(body: bytes, codec: Codec) -> dict[str, Any]:
    """Return the fields of a response that show data as it was sent."""
    sent = as_sent(body, codec)
    # Base64 has no characters that JSON escapes.
    return {"data_base64": sent.value[1:-1].decode()} if sent.is_base64 else {"data": msgspec.Raw(sent.value)}
