"""Messages as rows of the outbox, and rows as requests."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from discue_client import wire
from discue_client.messages import message_fields

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from discue_client.messages import MessageFields


class NewRow(NamedTuple):
    """The columns that an application stores, in the order of `INSERT_COLUMNS`."""

    queue: str
    key: str | None
    payload: bytes
    """The data: JSON, text in UTF-8, or bytes."""
    form: str
    """How the data was given: `json`, `text` or `bytes`."""
    fields: str
    """The other fields of the message, as a JSON object."""
    created_at: int


INSERT_COLUMNS = NewRow._fields


class Row(NamedTuple):
    """A stored message."""

    id: int
    key: str | None
    payload: bytes
    form: str
    fields: str
    error: str | None = None
    """The reason why it cannot be published."""


def new_row(queue: str, data: object, **fields: Unpack[MessageFields]) -> NewRow:
    """Return a message as a row. Raises TypeError or ValueError for a message that cannot be sent."""
    wire.path_of(queue)
    now = round(time.time() * 1_000)
    message = message_fields(data, **fields)
    if "delay" in message:
        # It counts from now, however much later the row is published.
        message["deliver_at"] = now + math.ceil(message.pop("delay") * 1_000)
    key = message.pop("key", None)
    content, form = _payload(message)
    return NewRow(queue, key, content, form, wire.encode(message).decode(), now)


def _payload(message: dict[str, Any]) -> tuple[bytes, str]:
    if "data_base64" in message:
        return bytes(message.pop("data_base64")), "bytes"
    data = message.pop("data")
    return (data.encode(), "text") if isinstance(data, str) else (wire.encode(data), "json")


def message_of(row: Row) -> dict[str, Any]:
    """Return the message of a row, as the API takes it: the same bytes for the same row, once it is encoded.

    Raises ValueError for a row that is not a message: programs may write the table themselves.
    """
    try:
        message = msgspec.json.decode(row.fields, type=dict[str, Any])
        if row.key is not None:
            message["key"] = row.key
        if row.form == "bytes":
            message["data_base64"] = row.payload
        elif row.form == "json":
            # Decoding checks the syntax only, not the UTF-8.
            message["data"] = msgspec.json.decode(row.payload.decode(), type=msgspec.Raw)
        else:
            message["data"] = row.payload.decode()
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    return message
