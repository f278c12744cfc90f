"""The fields of a message to publish."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def message_fields(
    data: object,
    *,
    key: str | None = None,
    delay: float | None = None,
    expires_in: float | None = None,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the fields of a message as the API takes them."""
    is_bytes = isinstance(data, (bytes, bytearray, memoryview))
    message = {"data_base64" if is_bytes else "data": data, "key": key, "headers": headers, **fields}
    if delay is not None:
        # The API counts whole seconds, and never sends early.
        message["delay"] = math.ceil(delay)
    if expires_in is not None:
        message["expires_at"] = round((time.time() + expires_in) * 1000)
    return {name: value for name, value in message.items() if value is not None or name == "data"}
