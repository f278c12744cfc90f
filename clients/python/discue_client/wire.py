"""Paths, bodies and responses, as the service reads and writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET

from discue_client.errors import UnexpectedResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def path_of(*segments: str) -> str:
    """Return the path with the segments, encoded. Raises ValueError for one that would lead elsewhere."""
    for segment in segments:
        if segment in ("", ".", "..") or not isinstance(segment, str):
            raise ValueError(f"{segment!r} is not the id or the alias of a resource.")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def with_query(path: str, fields: Mapping[str, object]) -> str:
    """Return the path with the parameters that are given."""
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in fields.items()
        if value is not None
    }
    return f"{path}?{urlencode(texts)}" if texts else path


def given(**fields: object) -> dict[str, object]:
    """Return the fields that are given: `UNSET` leaves a field as it is, `None` clears it."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def encode(body: object) -> bytes:
    """Encode a body. Raises TypeError for values that have no JSON form, ValueError for NaN and infinity."""
    content = msgspec.json.encode(body, enc_hook=_pydantic)
    # Both are encoded as null. Most bodies have no null, and cost nothing more.
    if b"null" in content:
        plain = msgspec.to_builtins(body, str_keys=True, enc_hook=_plain)
        json.dumps(plain, allow_nan=False)
    return content


def _pydantic(value: Any) -> Any:
    if hasattr(value, "model_dump_json"):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"{type(value).__name__} has no JSON form: publish its fields, or bytes")


def _plain(value: Any) -> Any:
    # Raw is JSON already.
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else None


def decode(content: bytes, type_: type[T], request: str) -> T:
    """Decode the body of a successful response. Raises UnexpectedResponse."""
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedResponse(f"{request}: the response cannot be read: {error}") from None
