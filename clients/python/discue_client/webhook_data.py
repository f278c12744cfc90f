"""The data of webhooks: JSON, text or bytes by their content type, as they are or as a CloudEvent in either mode."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from discue_client.errors import DiscueError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"

_PREFIX = "ce-"
_CHARSET = re.compile(r"""; *charset="?([^\s";]+)""", re.IGNORECASE)
_REQUIRED = ("specversion", "id", "source", "type")


class DataInvalid(DiscueError):
    """The sender is genuine, and the data is not what the receiver expects. `str()` is one line that says why."""

    status = 422
    """The HTTP status to respond with. discue sends the message again later, perhaps to a corrected receiver."""


def content_of(body: bytes, headers: Mapping[str, str], data_type: Any) -> tuple[Any, dict[str, str]]:
    """Return the data of a request and the attributes of its CloudEvent, {} if it is none. Raises DataInvalid."""
    content_type = headers.get("content-type", "")
    with _readable():
        if _media_type(content_type) == STRUCTURED:
            return _structured(body, data_type)
        attributes = _binary_attributes(headers) if f"{_PREFIX}specversion" in headers else {}
        return _data(body, content_type, data_type), attributes


def data_of(content: bytes, content_type: str, data_type: Any) -> Any:
    """Return JSON as the type, and text or bytes of other content types. Raises DataInvalid."""
    with _readable():
        return _data(content, content_type, data_type)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, RecursionError, msgspec.MsgspecError) as error:
        raise DataInvalid(f"The data is not acceptable: {one_line(str(error))}") from error


def _structured(body: bytes, data_type: Any) -> tuple[Any, dict[str, str]]:
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    data, encoded = members.pop("data", None), _decoded(members.pop("data_base64", None))
    values = {name: _decoded(value) for name, value in members.items()}
    attributes = {name: _attribute(name, value) for name, value in values.items() if value is not None}
    _check(attributes)
    content_type = attributes.get("datacontenttype", JSON)
    if encoded is not None:
        if not isinstance(encoded, str):
            raise ValueError("data_base64 must be a string.")
        return _data(b64decode(encoded, validate=True), content_type, data_type), attributes
    if data is None:
        return _typed(None, data_type), attributes
    if _is_json(_media_type(content_type)):
        return _from_json(bytes(data), data_type), attributes
    return _typed(_decoded(data), data_type), attributes


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    attributes = {
        name.removeprefix(_PREFIX): unquote_to_bytes(value).decode()
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    if headers.get("content-type"):
        attributes["datacontenttype"] = headers["content-type"]
    _check(attributes)
    return attributes


def _check(attributes: Mapping[str, str]) -> None:
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise ValueError(f"The CloudEvent lacks {', '.join(missing)}.")
    if attributes["specversion"] != "1.0":
        raise ValueError("The CloudEvent must have the specversion 1.0.")


def _attribute(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ValueError(f"The attribute {name} must be a string, an integer, true or false.")


def _data(content: bytes, content_type: str, data_type: Any) -> Any:
    media_type = _media_type(content_type)
    if _is_json(media_type):
        return _from_json(content, data_type)
    if not media_type and not content:
        return _typed(None, data_type)
    if media_type.startswith("text/"):
        return _typed(content.decode(_charset(content_type)), data_type)
    return _typed(bytes(content), data_type)


def _from_json(content: bytes, data_type: Any) -> Any:
    return msgspec.json.decode(content, type=data_type, dec_hook=_pydantic)


def _typed(value: str | bytes | None, data_type: Any) -> Any:
    return msgspec.convert(value, data_type, dec_hook=_pydantic)


def _pydantic(data_type: Any, value: Any) -> Any:
    """Decode a Pydantic model, for msgspec, which does not know them."""
    if hasattr(data_type, "model_validate_json"):
        return data_type.model_validate_json(msgspec.json.encode(value))
    raise NotImplementedError(f"msgspec cannot decode {data_type!r}")


def _decoded(value: msgspec.Raw | None) -> Any:
    return None if value is None else msgspec.json.decode(value)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == JSON or media_type.endswith("+json")


def _charset(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    return found[1] if found else "utf-8"
