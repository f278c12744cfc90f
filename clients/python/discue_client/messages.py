"""The fields of a message to publish."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Unpack

    from discue_client.models import RetryBody


class MessageFields(TypedDict, total=False):
    """Fields of a message in addition to its data. None is like leaving a field out."""

    type: str | None
    """Type of the event, such as `order.paid`: words separated by dots."""
    key: str | None
    """Messages with the same key stay in order, in an ordered queue."""
    alias: str | None
    headers: Mapping[str, str] | None
    content_type: str | None
    delay: float | timedelta | None
    """Earliest time of delivery, in seconds from now."""
    deliver_at: int | datetime | None
    """Earliest time of delivery, in milliseconds since the epoch."""
    expires_in: float | timedelta | None
    """Latest time of delivery, in seconds from now."""
    expires_at: int | datetime | None
    """Latest time of delivery, in milliseconds since the epoch."""
    retry: RetryBody | Sequence[int] | None


def message_fields(data: object, **fields: Unpack[MessageFields]) -> dict[str, Any]:
    """Return the fields of a message as the API takes them."""
    message = {name: _number(value) for name, value in fields.items() if value is not None}
    message["data_base64" if isinstance(data, (bytes, bytearray, memoryview)) else "data"] = data
    for name in ("delay", "expires_in"):
        if not isinstance(message.get(name, 0), (int, float)):
            raise TypeError(f"{name} must be a number of seconds or a timedelta, not {message[name]!r}.")
    if "delay" in message:
        # The API counts whole seconds, and never sends early.
        message["delay"] = math.ceil(message["delay"])
    if "expires_in" in message:
        message["expires_at"] = round((time.time() + message.pop("expires_in")) * 1000)
    return message


def _number(value: Any) -> Any:
    """Return a period in seconds and a time in milliseconds, as the API counts them; other values as they are."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"The time {value} has no time zone.")
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value
